package falrpc_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// TestMain fails when a test leaves a goroutine of gRPC behind.
func TestMain(m *testing.M) {
	code := m.Run()
	for end := time.Now().Add(10 * time.Second); code == 0; time.Sleep(20 * time.Millisecond) {
		left := grpcGoroutines()
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "%d goroutines are left:\n%s\n", len(left), strings.Join(left, "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

func grpcGoroutines() (found []string) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "google.golang.org/grpc") && !strings.Contains(stack, "TestMain") {
			found = append(found, stack)
		}
	}
	return found
}

// gateway is a server in this process. Each call is counted, then answered by a function where there is one.
type gateway struct {
	falrpcv1.UnimplementedFalServiceServer
	calls  atomic.Int32
	every  func(context.Context) error // each call first; an error ends it
	run    func(*falrpcv1.RunRequest) (*falrpcv1.RunResponse, error)
	upload func(grpc.ClientStreamingServer[falrpcv1.UploadRequest, falrpcv1.UploadResponse]) error
}

func (g *gateway) Run(_ context.Context, request *falrpcv1.RunRequest) (*falrpcv1.RunResponse, error) {
	if g.run == nil {
		return &falrpcv1.RunResponse{}, nil
	}
	return g.run(request)
}

func (g *gateway) Status(context.Context, *falrpcv1.StatusRequest) (*falrpcv1.StatusResponse, error) {
	return &falrpcv1.StatusResponse{}, nil
}

func (g *gateway) Upload(
	stream grpc.ClientStreamingServer[falrpcv1.UploadRequest, falrpcv1.UploadResponse],
) error {
	return g.upload(stream)
}

// serve starts the gateway on a loopback address and returns that. It ends with the test.
func (g *gateway) serve(t testing.TB, options ...grpc.ServerOption) string {
	t.Helper()
	count := func(ctx context.Context) error {
		g.calls.Add(1)
		if g.every == nil {
			return nil
		}
		return g.every(ctx)
	}
	server := grpc.NewServer(append(options,
		grpc.MaxRecvMsgSize(80<<20),
		grpc.UnaryInterceptor(func(
			ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
		) (any, error) {
			if err := count(ctx); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		}),
		grpc.StreamInterceptor(func(
			service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
		) error {
			if err := count(stream.Context()); err != nil {
				return err
			}
			return handler(service, stream)
		}),
	)...)
	falrpcv1.RegisterFalServiceServer(server, g)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// client dials the target and closes with the test.
func client(t testing.TB, target string, options ...grpc.DialOption) falrpcv1.FalServiceClient {
	t.Helper()
	conn, err := falrpc.Dial(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return falrpcv1.NewFalServiceClient(conn)
}

// within gives a context that outlives any call that works, and no test that hangs.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// failure is a status with details.
func failure(t testing.TB, code codes.Code, details ...protoadapt.MessageV1) error {
	t.Helper()
	made, err := status.New(code, "in words").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return made.Err()
}

func ours() *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Domain: "falrpc", Reason: "UPSTREAM_UNREACHABLE", Metadata: map[string]string{"delivery": "NOT_SENT"},
	}
}

func authorization(ctx context.Context) []string {
	arrived, _ := metadata.FromIncomingContext(ctx)
	return arrived.Get("authorization")
}
