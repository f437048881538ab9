package falrpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// TestSafeToRepeat proves that only the gateway's own UNAVAILABLE is a promise, also when it is wrapped.
func TestSafeToRepeat(t *testing.T) {
	upstream := &errdetails.ErrorInfo{Domain: "fal.ai", Reason: "RUNNER_SCHEDULING_FAILURE"}
	foreign := &errdetails.ErrorInfo{Domain: "googleapis.com", Reason: "SERVICE_DISABLED"}
	promise := failure(t, codes.Unavailable, ours())
	for name, one := range map[string]struct {
		err    error
		want   bool
		reason string
	}{
		"ours":             {promise, true, "UPSTREAM_UNREACHABLE"},
		"fal's":            {failure(t, codes.Unavailable, upstream), true, "RUNNER_SCHEDULING_FAILURE"},
		"wrapped":          {fmt.Errorf("run: %w", promise), true, "UPSTREAM_UNREACHABLE"},
		"joined":           {errors.Join(errors.New("else"), promise), true, "UPSTREAM_UNREACHABLE"},
		"another domain":   {failure(t, codes.Unavailable, foreign), false, ""},
		"no details":       {failure(t, codes.Unavailable), false, ""},
		"other details":    {failure(t, codes.Unavailable, &errdetails.RetryInfo{}), false, ""},
		"another code":     {failure(t, codes.Unknown, ours()), false, "UPSTREAM_UNREACHABLE"},
		"no status":        {context.DeadlineExceeded, false, ""},
		"no error":         {nil, false, ""},
		"broken details":   {broken(codes.Unavailable), false, ""},
		"our cancellation": {failure(t, codes.Canceled), false, ""},
	} {
		if got := falrpc.SafeToRepeat(one.err); got != one.want {
			t.Errorf("%s: %v, want %v", name, got, one.want)
		}
		if got := falrpc.Reason(one.err); got != one.reason {
			t.Errorf("%s: reason %q, want %q", name, got, one.reason)
		}
		isOurs := one.reason == "UPSTREAM_UNREACHABLE"
		if got := falrpc.Metadata(one.err)["delivery"]; (got == "NOT_SENT") != isOurs {
			t.Errorf("%s: delivery %q", name, got)
		}
	}
}

func broken(code codes.Code) error {
	url := "type.googleapis.com/google.rpc.ErrorInfo"
	return grpcstatus.ErrorProto(&status.Status{
		Code: int32(code), Details: []*anypb.Any{{TypeUrl: url, Value: []byte{0xff}}, {TypeUrl: "nowhere/None"}},
	})
}

// TestRetryAfter proves that a delay is told exactly, and a missing one is told from none.
func TestRetryAfter(t *testing.T) {
	delay := &errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)}
	for name, one := range map[string]struct {
		err  error
		want time.Duration
		ok   bool
	}{
		"a delay":    {failure(t, codes.ResourceExhausted, ours(), delay), 1500 * time.Millisecond, true},
		"at once":    {failure(t, codes.Unavailable, &errdetails.RetryInfo{}), 0, true},
		"no detail":  {failure(t, codes.Unavailable, ours()), 0, false},
		"no details": {broken(codes.Unavailable), 0, false},
		"no error":   {nil, 0, false},
	} {
		if got, ok := falrpc.RetryAfter(one.err); got != one.want || ok != one.ok {
			t.Errorf("%s: %v %v, want %v %v", name, got, ok, one.want, one.ok)
		}
	}
}

// TestFieldViolations proves that all violations of a status arrive through a connection, in order.
func TestFieldViolations(t *testing.T) {
	sent := &errdetails.BadRequest{}
	for number := range 500 {
		sent.FieldViolations = append(sent.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: fmt.Sprintf("input.loras[%d]", number), Description: "Field required", Reason: "MISSING",
		})
	}
	g := &gateway{every: func(context.Context) error { return failure(t, codes.InvalidArgument, ours(), sent) }}
	_, err := client(t, g.serve(t)).Run(within(t), &falrpcv1.RunRequest{})
	got := falrpc.FieldViolations(fmt.Errorf("run: %w", err))
	if len(got) != 500 || got[499].GetField() != "input.loras[499]" || got[0].GetReason() != "MISSING" {
		t.Errorf("%d violations: %v", len(got), err)
	}
	if got := falrpc.FieldViolations(nil); got != nil {
		t.Errorf("violations of no error: %v", got)
	}
}
