// Command example uses fal.ai through falrpc: a file, a model, the queue, a workflow, and errors to expect.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// What the models return, as far as this program cares.
type image struct {
	URL           string
	Width, Height int
}
type single struct{ Image image }
type several struct {
	Images []image
	Seed   uint64
}

func main() {
	options := []grpc.DialOption{falrpc.WithToken(os.Getenv("FALRPC_TOKEN"))}
	if file := os.Getenv("FALRPC_CA_FILE"); file != "" {
		options = append(options, grpc.WithTransportCredentials(must(credentials.NewClientTLSFromFile(file, ""))))
	}
	conn := must(falrpc.Dial(cmp.Or(os.Getenv("FALRPC_ADDRESS"), "localhost:50051"), options...))
	defer conn.Close()
	fal := falrpcv1.NewFalServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // for all calls together
	defer cancel()

	// Upload a file; run a model on it and read the output into a struct.
	flag.Parse()
	path := cmp.Or(flag.Arg(0), "../photo.jpg")
	file := must(os.Open(path))
	defer file.Close()
	uploaded := must(falrpc.Upload(ctx, fal, &falrpcv1.UploadHeader{FileName: filepath.Base(path)}, file))
	fmt.Println("uploaded  ", uploaded.GetUrl())
	cut := must(fal.Run(ctx, &falrpcv1.RunRequest{
		EndpointId: "fal-ai/imageutils/rembg",
		Input:      must(falrpc.Input(map[string]any{"image_url": uploaded.GetUrl()})),
	}))
	subject := decode[single](cut.GetOutput()).Image
	fmt.Printf("cut out    %dx%d %s\n", subject.Width, subject.Height, subject.URL)

	// Put a request into the queue and follow it to its result.
	subscription := must(fal.Subscribe(ctx, &falrpcv1.SubscribeRequest{
		Target: &falrpcv1.SubscribeRequest_Submit{Submit: &falrpcv1.SubmitRequest{
			EndpointId: "fal-ai/fast-sdxl",
			Input:      must(falrpc.Input(map[string]any{"prompt": "a cat", "seed": uint64(15860307465884635512)})),
		}},
		IncludeLogs: true,
	}))
	each(subscription, func(message *falrpcv1.SubscribeResponse) {
		switch kind := message.GetKind().(type) {
		case *falrpcv1.SubscribeResponse_Accepted:
			fmt.Println("accepted  ", kind.Accepted.GetRequestId())
		case *falrpcv1.SubscribeResponse_Status:
			switch kind.Status.GetState() {
			case falrpcv1.RequestState_REQUEST_STATE_IN_QUEUE:
				fmt.Println("waiting    position", kind.Status.GetQueuePosition())
			case falrpcv1.RequestState_REQUEST_STATE_IN_PROGRESS:
				fmt.Println("running")
			}
		case *falrpcv1.SubscribeResponse_Logs:
			for _, entry := range kind.Logs.GetEntries() {
				fmt.Println("log       ", entry.GetMessage())
			}
		case *falrpcv1.SubscribeResponse_Result:
			result := decode[several](kind.Result.GetOutput())
			for _, picture := range result.Images {
				fmt.Println("picture    seed", result.Seed, picture.URL)
			}
		}
	})

	// Run a workflow and see its steps as they come.
	steps := must(fal.StreamWorkflow(ctx, &falrpcv1.StreamWorkflowRequest{
		EndpointId: "workflows/fal-ai/sdxl-sticker",
		Input:      must(falrpc.Input(map[string]any{"prompt": "a cat"})),
	}))
	each(steps, func(message *falrpcv1.StreamWorkflowResponse) {
		switch kind := message.GetKind().(type) {
		case *falrpcv1.StreamWorkflowResponse_Submit:
			fmt.Println("step      ", kind.Submit.GetNodeId(), kind.Submit.GetAppId(), "submitted")
		case *falrpcv1.StreamWorkflowResponse_Completion:
			fmt.Println("step      ", kind.Completion.GetNodeId(), "completed")
		case *falrpcv1.StreamWorkflowResponse_Error:
			fmt.Println("step      ", kind.Error.GetNodeId(), "failed:", kind.Error.GetMessage())
		case *falrpcv1.StreamWorkflowResponse_Output:
			fmt.Println("sticker   ", decode[single](kind.Output.GetOutput()).Image.URL)
		}
	})

	// A wrong input: the model says what is wrong with each field.
	_, err := fal.Run(ctx, &falrpcv1.RunRequest{
		EndpointId: "fal-ai/fast-sdxl",
		Input:      must(falrpc.Input(map[string]any{"num_images": 99})),
	})
	violations := falrpc.FieldViolations(err)
	if len(violations) == 0 {
		check(err)
	}
	for _, violation := range violations {
		fmt.Printf("refused    %s: %s\n", violation.GetField(), violation.GetDescription())
	}

	// Rather no place in the queue than a long wait; then think better of it.
	queued, err := fal.Submit(ctx, &falrpcv1.SubmitRequest{
		EndpointId: "fal-ai/fast-sdxl",
		Input:      must(falrpc.Input(map[string]any{"prompt": "a cat"})),
		Queue:      &falrpcv1.QueueOptions{MaxQueueLength: proto.Int32(1)},
	})
	if wait, ok := falrpc.RetryAfter(err); ok && status.Code(err) == codes.ResourceExhausted {
		fmt.Printf("quota      %s, try again in %s\n", falrpc.Reason(err), wait)
		return
	}
	check(err)
	must(fal.Cancel(ctx, &falrpcv1.CancelRequest{Handle: queued.GetHandle()}))
	fmt.Printf("queued     %s, cancelled\n", queued.GetHandle().GetRequestId())
}

// each hands over the messages of a stream until it ends well.
func each[M any](stream grpc.ServerStreamingClient[M], handle func(*M)) {
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return
		}
		check(err)
		handle(message)
	}
}

func decode[T any](output *falrpcv1.Output) (value T) {
	check(falrpc.Decode(output, &value))
	return value
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// check ends the program with one line that says what went wrong. Programs that go on return errors instead.
func check(err error) {
	if err == nil {
		return
	}
	text := strings.TrimPrefix(err.Error(), "falrpc: ")
	if failed, ok := status.FromError(err); ok {
		text = fmt.Sprintf("%s: %s", code.Code(failed.Code()), failed.Message())
	}
	switch {
	case status.Code(err) == codes.Unauthenticated:
		text += " (set FALRPC_TOKEN)"
	case strings.HasSuffix(text, "no children to pick from"): // what gRPC says of a name without addresses
		text += " (FALRPC_ADDRESS: no such host)"
	}
	fmt.Fprintln(os.Stderr, "falrpc:", text)
	os.Exit(1)
}
