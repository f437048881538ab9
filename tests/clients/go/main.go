// Command caller makes the calls that its standard input describes, one JSON object a line, through the Go
// helper with its defaults, and writes what came of each to its standard output, one JSON object a line.
//
// So one set of cases can show that Go sees what other languages see.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// call is what to do.
type call struct {
	Method         string            `json:"method"`
	Requests       []json.RawMessage `json:"requests"`
	TimeoutSeconds float64           `json:"timeout_seconds"`
	LeaveAfter     int               `json:"leave_after"`
	Bytes          int64             `json:"bytes"`
}

// outcome is what came of it. Failure is nil after OK.
type outcome struct {
	Code     string            `json:"code"`
	Messages []json.RawMessage `json:"messages"`
	Outputs  []*string         `json:"outputs"`
	*failure
}

type failure struct {
	Message      string            `json:"message"`
	Reason       string            `json:"reason"`
	Metadata     map[string]string `json:"metadata"`
	Violations   []violation       `json:"violations"`
	RetrySeconds *float64          `json:"retry_seconds"`
	SafeToRepeat bool              `json:"safe_to_repeat"`
	Details      []json.RawMessage `json:"details"`
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
	Reason      string `json:"reason"`
}

func main() {
	if err := run(os.Getenv("FALRPC_ADDRESS"), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
}

func run(target string, in io.Reader, out io.Writer) error {
	if target == "" {
		return errors.New("FALRPC_ADDRESS is not set")
	}
	conn, err := falrpc.Dial(target)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := falrpcv1.NewFalServiceClient(conn)
	lines := json.NewDecoder(in)
	lines.DisallowUnknownFields()
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	for {
		todo := call{TimeoutSeconds: 30}
		if err := lines.Decode(&todo); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		came, err := made(client, todo)
		if err != nil {
			return fmt.Errorf("%s: %w", todo.Method, err)
		}
		if err := answers.Encode(came); err != nil {
			return err
		}
	}
}

// made makes the call. Its error is one of this program or its input; how the call ended is in the outcome.
func made(client falrpcv1.FalServiceClient, todo call) (outcome, error) {
	timeout := time.Duration(todo.TimeoutSeconds * float64(time.Second))
	ctx, leave := context.WithTimeout(context.Background(), timeout)
	defer leave()
	came := outcome{Messages: []json.RawMessage{}, Outputs: []*string{}}
	method, ok := methods(client)[todo.Method]
	if !ok {
		return came, errors.New("no such method")
	}
	err := method(ctx, todo, func(message proto.Message) error {
		text, err := protojson.Marshal(message)
		if err != nil {
			return broken{err}
		}
		came.Messages = append(came.Messages, text)
		if output := outputOf(message); output != nil {
			came.Outputs = append(came.Outputs, decodedAndBack(output))
		}
		if todo.LeaveAfter > 0 && len(came.Messages) == todo.LeaveAfter {
			leave()
			return errLeft
		}
		return nil
	})
	if own := (broken{}); errors.As(err, &own) {
		return came, own.error
	}
	came.Code = code.Code(status.Code(err)).String()
	if err != nil {
		came.failure, err = read(err)
	}
	return came, err
}

// read asks the helper about an error.
func read(failed error) (*failure, error) {
	all := status.Convert(failed)
	seen := &failure{
		Message:      all.Message(),
		Reason:       falrpc.Reason(failed),
		Metadata:     falrpc.Metadata(failed),
		Violations:   []violation{},
		SafeToRepeat: falrpc.SafeToRepeat(failed),
		Details:      []json.RawMessage{},
	}
	if seen.Metadata == nil {
		seen.Metadata = map[string]string{}
	}
	for _, one := range falrpc.FieldViolations(failed) {
		seen.Violations = append(seen.Violations, violation{one.GetField(), one.GetDescription(), one.GetReason()})
	}
	if wait, ok := falrpc.RetryAfter(failed); ok {
		seconds := wait.Seconds()
		seen.RetrySeconds = &seconds
	}
	for _, detail := range all.Proto().GetDetails() {
		text, err := protojson.Marshal(detail)
		if err != nil {
			return nil, err
		}
		seen.Details = append(seen.Details, text)
	}
	return seen, nil
}

// outputOf finds the model's output in a message, nil where there is none.
func outputOf(message proto.Message) *falrpcv1.Output {
	switch message := message.(type) {
	case *falrpcv1.RunResponse:
		return message.GetOutput()
	case *falrpcv1.ResultResponse:
		return message.GetOutput()
	case *falrpcv1.SubscribeResponse:
		return message.GetResult().GetOutput()
	case *falrpcv1.StreamResponse:
		return message.GetEvent()
	case *falrpcv1.StreamWorkflowResponse:
		if completion := message.GetCompletion(); completion != nil {
			return completion.GetOutput()
		}
		return message.GetOutput().GetOutput()
	}
	return nil
}

// decodedAndBack returns the JSON that the helper makes of what it has decoded, nil when it can't.
func decodedAndBack(output *falrpcv1.Output) *string {
	var value any
	if err := falrpc.Decode(output, &value); err != nil {
		return nil
	}
	input, err := falrpc.Input(value)
	if err != nil {
		return nil
	}
	text := input.GetJson()
	return &text
}
