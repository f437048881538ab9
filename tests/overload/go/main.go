// Command load makes the calls that its standard input describes, each at its time whatever became of those
// before it, and writes what came of them to its standard output.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// plan is what to do. Seconds count from the begin of all traffic.
type plan struct {
	Address     string    `json:"address"`
	Connections int       `json:"connections"`
	Traffics    []traffic `json:"traffics"`
	// HealthSeconds is how often Health.Check is called meanwhile, on a connection of its own; 0 for never.
	HealthSeconds float64 `json:"health_seconds"`
}

// traffic is Calls calls of Run, PerSecond a second or, when that is 0, all at once.
type traffic struct {
	Name           string  `json:"name"`
	Token          string  `json:"token"`
	Endpoint       string  `json:"endpoint"`
	Input          string  `json:"input"`
	Calls          int     `json:"calls"`
	PerSecond      float64 `json:"per_second"`
	BeginSeconds   float64 `json:"begin_seconds"`
	TimeoutSeconds float64 `json:"timeout_seconds"`
}

// outcome is one call: when it was due, how long after that it ended, and how. Its begin may have been later.
type outcome struct {
	At          float64  `json:"at"`
	LateSeconds float64  `json:"late_seconds"`
	Seconds     float64  `json:"seconds"`
	Code        string   `json:"code"`
	Reason      string   `json:"reason,omitempty"`
	Retry       *float64 `json:"retry_seconds,omitempty"`
	Message     string   `json:"message,omitempty"`
}

const checkSecondsMax = 10

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var todo plan
	if err := json.NewDecoder(in).Decode(&todo); err != nil {
		return err
	}
	connections := make([]*grpc.ClientConn, todo.Connections+1)
	for i := range connections {
		connection, err := connected(todo.Address)
		if err != nil {
			return err
		}
		defer connection.Close()
		connections[i] = connection
	}
	checking := grpc_health_v1.NewHealthClient(connections[todo.Connections])
	clients := make([]falrpcv1.FalServiceClient, todo.Connections)
	for i := range clients {
		clients[i] = falrpcv1.NewFalServiceClient(connections[i])
	}

	begin := time.Now()
	results := make(map[string][]outcome)
	var generating sync.WaitGroup
	for _, one := range todo.Traffics {
		done := make([]outcome, one.Calls)
		results[one.Name] = done
		generating.Add(1)
		go func() {
			defer generating.Done()
			generate(begin, one, clients, done)
		}()
	}
	ended := make(chan struct{})
	checked := make(chan []outcome)
	go func() { checked <- check(begin, todo.HealthSeconds, checking, ended) }()
	generating.Wait()
	close(ended)
	return json.NewEncoder(out).Encode(map[string]any{"traffics": results, "health": <-checked})
}

// connected returns a connection of its own that is ready. It repeats nothing.
func connected(address string) (*grpc.ClientConn, error) {
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkSecondsMax*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{},
		grpc.WaitForReady(true))
	return connection, err
}

// generate makes all calls of a traffic at their times, and waits for them.
func generate(begin time.Time, one traffic, clients []falrpcv1.FalServiceClient, done []outcome) {
	request := &falrpcv1.RunRequest{
		EndpointId: one.Endpoint,
		Input:      &falrpcv1.Input{Value: &falrpcv1.Input_Json{Json: one.Input}},
	}
	ctx := context.Background()
	if one.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+one.Token)
	}
	var calling sync.WaitGroup
	for i := range done {
		due := seconds(one.BeginSeconds)
		if one.PerSecond > 0 {
			due += seconds(float64(i) / one.PerSecond)
		}
		time.Sleep(time.Until(begin.Add(due)))
		calling.Add(1)
		go func() {
			defer calling.Done()
			ctx, cancel := context.WithTimeout(ctx, seconds(one.TimeoutSeconds))
			defer cancel()
			began := time.Since(begin)
			_, err := clients[i%len(clients)].Run(ctx, request)
			done[i] = outcome{At: due.Seconds(), LateSeconds: (began - due).Seconds(),
				Seconds: (time.Since(begin) - due).Seconds()}
			done[i].ended(err)
		}()
	}
	calling.Wait()
}

// check calls Health.Check every so often, each at its time, until the end.
func check(begin time.Time, every float64, client grpc_health_v1.HealthClient, end <-chan struct{}) []outcome {
	var lock sync.Mutex
	var checking sync.WaitGroup
	found := []outcome{}
	for i := 0; every > 0; i++ {
		due := seconds(float64(i) * every)
		select {
		case <-end:
			checking.Wait()
			return found
		case <-time.After(time.Until(begin.Add(due))):
		}
		checking.Add(1)
		go func() {
			defer checking.Done()
			ctx, cancel := context.WithTimeout(context.Background(), checkSecondsMax*time.Second)
			defer cancel()
			_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			one := outcome{At: due.Seconds(), Seconds: (time.Since(begin) - due).Seconds()}
			one.ended(err)
			lock.Lock()
			defer lock.Unlock()
			found = append(found, one)
		}()
	}
	return found
}

func (o *outcome) ended(err error) {
	o.Code = name(status.Code(err))
	if err == nil {
		return
	}
	o.Reason, o.Message = falrpc.Reason(err), status.Convert(err).Message()
	if wait, ok := falrpc.RetryAfter(err); ok {
		after := wait.Seconds()
		o.Retry = &after
	}
}

// name is the code as the contract writes it.
func name(code codes.Code) string {
	names := map[codes.Code]string{codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN",
		codes.ResourceExhausted: "RESOURCE_EXHAUSTED", codes.Unavailable: "UNAVAILABLE",
		codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.Internal: "INTERNAL"}
	if known, ok := names[code]; ok {
		return known
	}
	return code.String()
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }
