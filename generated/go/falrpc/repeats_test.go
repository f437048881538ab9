package falrpc_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// TestRepeats proves that calls which only read are tried three times on UNAVAILABLE, and no other call twice.
func TestRepeats(t *testing.T) {
	receive := func(recv func() error, err error) error {
		if err != nil {
			return err
		}
		return recv()
	}
	type call func(context.Context, falrpcv1.FalServiceClient) error
	cases := map[string]struct {
		attempts int32
		call     call
	}{
		"Status": {3, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			_, err := c.Status(ctx, &falrpcv1.StatusRequest{})
			return err
		}},
		"StreamStatus": {3, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			stream, err := c.StreamStatus(ctx, &falrpcv1.StreamStatusRequest{})
			return receive(func() error { _, err := stream.Recv(); return err }, err)
		}},
		"Result": {3, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			_, err := c.Result(ctx, &falrpcv1.ResultRequest{})
			return err
		}},
		"Cancel": {3, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			_, err := c.Cancel(ctx, &falrpcv1.CancelRequest{})
			return err
		}},
		"Run": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			_, err := c.Run(ctx, &falrpcv1.RunRequest{})
			return err
		}},
		"Submit": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			_, err := c.Submit(ctx, &falrpcv1.SubmitRequest{})
			return err
		}},
		"Subscribe": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			stream, err := c.Subscribe(ctx, &falrpcv1.SubscribeRequest{})
			return receive(func() error { _, err := stream.Recv(); return err }, err)
		}},
		"Stream": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			stream, err := c.Stream(ctx, &falrpcv1.StreamRequest{})
			return receive(func() error { _, err := stream.Recv(); return err }, err)
		}},
		"StreamWorkflow": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			stream, err := c.StreamWorkflow(ctx, &falrpcv1.StreamWorkflowRequest{})
			return receive(func() error { _, err := stream.Recv(); return err }, err)
		}},
		"Upload": {1, func(ctx context.Context, c falrpcv1.FalServiceClient) error {
			stream, err := c.Upload(ctx)
			return receive(func() error { _, err := stream.CloseAndRecv(); return err }, err)
		}},
	}
	for _, method := range falrpcv1.FalService_ServiceDesc.Methods {
		if cases[method.MethodName].call == nil {
			t.Errorf("no case for %s", method.MethodName)
		}
	}
	for _, method := range falrpcv1.FalService_ServiceDesc.Streams {
		if cases[method.StreamName].call == nil {
			t.Errorf("no case for %s", method.StreamName)
		}
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &gateway{every: func(context.Context) error { return failure(t, codes.Unavailable, ours()) }}
			err := one.call(within(t), client(t, g.serve(t)))
			if status.Code(err) != codes.Unavailable || g.calls.Load() != one.attempts {
				t.Errorf("%v after %d attempts, want UNAVAILABLE after %d", err, g.calls.Load(), one.attempts)
			}
		})
	}
}

// TestRepeatsOnlyUnavailable proves that a read which ends otherwise is not repeated, and that one which
// recovers works.
func TestRepeatsOnlyUnavailable(t *testing.T) {
	for _, code := range []codes.Code{codes.Unknown, codes.Aborted, codes.ResourceExhausted, codes.Internal} {
		g := &gateway{every: func(context.Context) error { return failure(t, code, ours()) }}
		_, err := client(t, g.serve(t)).Status(within(t), &falrpcv1.StatusRequest{})
		if status.Code(err) != code || g.calls.Load() != 1 {
			t.Errorf("%v after %d attempts, want %v after 1", err, g.calls.Load(), code)
		}
	}
	recovers := &gateway{}
	recovers.every = func(context.Context) error {
		if recovers.calls.Load() < 3 {
			return failure(t, codes.Unavailable, ours())
		}
		return nil
	}
	if _, err := client(t, recovers.serve(t)).Status(within(t), &falrpcv1.StatusRequest{}); err != nil {
		t.Error(err)
	}
}
