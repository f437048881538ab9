// Package falrpc connects Go programs to falrpc and reads what its calls tell.
//
// The messages and the client are in the package falrpcv1, generated from the contract:
//
//	conn, err := falrpc.Dial("localhost:50051")
//	client := falrpcv1.NewFalServiceClient(conn)
package falrpc

import (
	"context"
	"crypto/tls"
	_ "embed"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const messageBytesMax = 64 << 20

//go:embed service_config.json
var serviceConfig string

// Option changes what Dial does by default.
type Option func(*settings)

type settings struct {
	token     string
	tls       *tls.Config
	plaintext bool
	more      []grpc.DialOption
}

// WithToken sends a bearer token with every call.
func WithToken(token string) Option { return func(s *settings) { s.token = token } }

// WithTLS replaces the TLS settings, for a certificate authority or a client certificate of one's own.
func WithTLS(config *tls.Config) Option { return func(s *settings) { s.tls = config } }

// WithPlaintext leaves TLS out, for meshes whose sidecars add it.
func WithPlaintext() Option { return func(s *settings) { s.plaintext = true } }

// WithDialOptions adds options of gRPC's own, after ours.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.more = append(s.more, options...) }
}

// Dial makes a connection; nothing is sent before the first call. Close it after use.
//
// It speaks TLS unless the target is this machine or WithPlaintext is given. Calls are spread over all addresses
// of the target (dns:///name:port for a headless service). Status, StreamStatus, Result and Cancel are repeated
// on UNAVAILABLE; what costs money never is. A message may have 64 MiB.
func Dial(target string, options ...Option) (*grpc.ClientConn, error) {
	var s settings
	for _, option := range options {
		option(&s)
	}
	security := credentials.NewTLS(s.tls)
	if s.plaintext || (s.tls == nil && isLoopback(target)) {
		security = insecure.NewCredentials()
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax),
		),
	}
	if s.token != "" {
		isSafe := security.Info().SecurityProtocol != "insecure"
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{s.token, isSafe}))
	}
	return grpc.NewClient(target, append(dial, s.more...)...)
}

type bearer struct {
	token  string
	isSafe bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity is false only where the caller of Dial has left TLS out.
func (b bearer) RequireTransportSecurity() bool { return b.isSafe }

func isLoopback(target string) bool {
	address := target[strings.LastIndex(target, "/")+1:]
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
