package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// method makes a call, hands over each message as it comes, and returns how the call ended.
type method func(ctx context.Context, todo call, got func(proto.Message) error) error

// broken is an error of this program or its input, not of a call.
type broken struct{ error }

// errLeft is returned for the last message that is wanted of a stream.
var errLeft = errors.New("left")

func methods(client falrpcv1.FalServiceClient) map[string]method {
	return map[string]method{
		"Run":            unary(client.Run),
		"Submit":         unary(client.Submit),
		"Status":         unary(client.Status),
		"Result":         unary(client.Result),
		"Cancel":         unary(client.Cancel),
		"StreamStatus":   serverStream(client.StreamStatus),
		"Subscribe":      serverStream(client.Subscribe),
		"Stream":         serverStream(client.Stream),
		"StreamWorkflow": serverStream(client.StreamWorkflow),
		"Upload": func(ctx context.Context, todo call, got func(proto.Message) error) error {
			return upload(ctx, client, todo, got)
		},
		"UploadFile": func(ctx context.Context, todo call, got func(proto.Message) error) error {
			header := new(falrpcv1.UploadHeader)
			if err := only(todo, header); err != nil {
				return err
			}
			response, err := falrpc.Upload(ctx, client, header, &zeros{left: todo.Bytes})
			if err != nil {
				return err
			}
			return got(response)
		},
	}
}

// message is a pointer to a generated struct.
type message[T any] interface {
	*T
	proto.Message
}

func unary[Q, R any, PQ message[Q], PR message[R]](
	make func(context.Context, PQ, ...grpc.CallOption) (PR, error),
) method {
	return func(ctx context.Context, todo call, got func(proto.Message) error) error {
		request := PQ(new(Q))
		if err := only(todo, request); err != nil {
			return err
		}
		response, err := make(ctx, request)
		if err != nil {
			return err
		}
		return got(response)
	}
}

func serverStream[Q, R any, PQ message[Q], PR message[R]](
	open func(context.Context, PQ, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error),
) method {
	return func(ctx context.Context, todo call, got func(proto.Message) error) error {
		request := PQ(new(Q))
		if err := only(todo, request); err != nil {
			return err
		}
		stream, err := open(ctx, request)
		for isLeft := false; err == nil; {
			var response *R
			response, err = stream.Recv()
			if err == nil && !isLeft { // what was under way when the stream was left doesn't count
				err = got(PR(response))
			}
			if err == errLeft {
				isLeft, err = true, nil
			}
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}

// upload sends the requests as they are, whatever the service thinks of their order.
func upload(
	ctx context.Context, client falrpcv1.FalServiceClient, todo call, got func(proto.Message) error,
) error {
	stream, err := client.Upload(ctx)
	if err != nil {
		return err
	}
	for _, text := range todo.Requests {
		request := new(falrpcv1.UploadRequest)
		if err := protojson.Unmarshal(text, request); err != nil {
			return broken{err}
		}
		if err := stream.Send(request); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	return got(response)
}

// only reads the one request of a call.
func only(todo call, request proto.Message) error {
	if len(todo.Requests) != 1 {
		return broken{fmt.Errorf("%d requests, want 1", len(todo.Requests))}
	}
	if err := protojson.Unmarshal(todo.Requests[0], request); err != nil {
		return broken{err}
	}
	return nil
}

// zeros yields zero bytes in pieces of odd sizes.
type zeros struct {
	left  int64
	reads int
}

func (z *zeros) Read(buffer []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	sizes := []int{1, 65_537, 12_345, 300_001, 7}
	count := min(len(buffer), sizes[z.reads%len(sizes)], int(z.left))
	clear(buffer[:count])
	z.left -= int64(count)
	z.reads++
	return count, nil
}
