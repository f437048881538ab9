package falrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// A model is called, and its output read into a struct.
func Example() {
	conn, err := falrpc.Dial("localhost:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := falrpcv1.NewFalServiceClient(conn)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	input, err := falrpc.Input(map[string]any{"prompt": "a happy robot"})
	if err != nil {
		log.Fatal(err)
	}
	response, err := client.Run(ctx, &falrpcv1.RunRequest{EndpointId: "fal-ai/fast-sdxl", Input: input})
	if err != nil {
		log.Fatal(err)
	}
	var picture struct {
		Seed   uint64
		Images []struct{ URL string }
	}
	if err := falrpc.Decode(response.GetOutput(), &picture); err != nil {
		log.Fatal(err)
	}
	fmt.Println(picture.Seed, picture.Images[0].URL)
}

// A certificate authority of one's own, and a token.
func ExampleDial() {
	pem, err := os.ReadFile("/etc/falrpc/ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in ca.pem")
	}
	conn, err := falrpc.Dial("dns:///falrpc.internal:443",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: authorities})),
		falrpc.WithToken(os.Getenv("FALRPC_TOKEN")),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// In a mesh whose sidecar encrypts, the program itself speaks plaintext.
func ExampleDial_mesh() {
	conn, err := falrpc.Dial("dns:///falrpc.default.svc.cluster.local:50051",
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

func ExampleInput() {
	input, err := falrpc.Input(map[string]any{"prompt": "salt & pepper", "seed": uint64(15860307465884635512)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(input.GetJson())
	// Output: {"prompt":"salt & pepper","seed":15860307465884635512}
}

func ExampleDecode() {
	output := &falrpcv1.Output{Value: &falrpcv1.Output_Json{Json: `{"seed": 15860307465884635512}`}}
	var picture struct{ Seed uint64 }
	if err := falrpc.Decode(output, &picture); err != nil {
		log.Fatal(err)
	}
	fmt.Println(picture.Seed)
	// Output: 15860307465884635512
}

func ExampleUpload() {
	conn, err := falrpc.Dial("localhost:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	file, err := os.Open("photo.jpg")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	header := &falrpcv1.UploadHeader{FileName: "photo.jpg"}
	uploaded, err := falrpc.Upload(ctx, falrpcv1.NewFalServiceClient(conn), header, file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(uploaded.GetUrl())
}

func ExampleFieldViolations() {
	err := refusal() // of client.Run(ctx, …)
	for _, violation := range falrpc.FieldViolations(err) {
		fmt.Printf("%s: %s\n", violation.GetField(), violation.GetDescription())
	}
	// Output: input.prompt: Field required
}

// A paid call is repeated by its caller, and only when the gateway promises that nothing was accepted.
func ExampleSafeToRepeat() {
	run := func(ctx context.Context, client falrpcv1.FalServiceClient, request *falrpcv1.RunRequest) error {
		for {
			_, err := client.Run(ctx, request)
			if !falrpc.SafeToRepeat(err) {
				return err
			}
			wait, ok := falrpc.RetryAfter(err)
			if !ok {
				wait = time.Second
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return err
			}
		}
	}
	_ = run
}

func refusal() error {
	refused, err := status.New(codes.InvalidArgument, "input.prompt: Field required").WithDetails(
		&errdetails.ErrorInfo{Domain: "fal.ai", Reason: "MISSING"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "input.prompt", Description: "Field required", Reason: "MISSING"},
		}},
	)
	if err != nil {
		log.Fatal(err)
	}
	return refused.Err()
}
