package falrpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

type uploadStream = grpc.ClientStreamingServer[falrpcv1.UploadRequest, falrpcv1.UploadResponse]

// received reads an upload to its end.
func received(stream uploadStream) (header *falrpcv1.UploadHeader, file []byte, err error) {
	for number := 0; ; number++ {
		request, err := stream.Recv()
		if err == io.EOF {
			return header, file, nil
		}
		if err != nil {
			return header, file, err
		}
		if number == 0 {
			header = request.GetHeader()
		} else if len(request.GetChunk()) == 0 {
			return header, file, errors.New("an empty chunk")
		}
		file = append(file, request.GetChunk()...)
	}
}

// TestUpload proves that a file arrives whole, whatever sizes its reader yields.
func TestUpload(t *testing.T) {
	var got []byte
	var name string
	g := &gateway{upload: func(stream uploadStream) error {
		header, file, err := received(stream)
		if err != nil {
			return err
		}
		got, name = file, header.GetFileName()
		return stream.SendAndClose(&falrpcv1.UploadResponse{Url: "https://v3.fal.media/f", Size: int64(len(file))})
	}}
	c := client(t, g.serve(t))
	large := bytes.Repeat([]byte("0123456789abcde"), 100_000)
	for kind, one := range map[string]struct {
		file   []byte
		reader func(io.Reader) io.Reader
	}{
		"in memory":          {large, func(r io.Reader) io.Reader { return r }},
		"by halves":          {large, iotest.HalfReader},
		"with EOF at once":   {large, iotest.DataErrReader},
		"byte by byte":       {large[:999], iotest.OneByteReader},
		"empty":              {nil, func(r io.Reader) io.Reader { return r }},
		"EOF with last byte": {large[:1], iotest.DataErrReader},
	} {
		header := &falrpcv1.UploadHeader{FileName: "a.bin"}
		response, err := falrpc.Upload(within(t), c, header, one.reader(bytes.NewReader(one.file)))
		if err != nil || response.GetSize() != int64(len(one.file)) || response.GetUrl() == "" {
			t.Fatalf("%s: %v, %v", kind, response, err)
		}
		if !bytes.Equal(got, one.file) || name != "a.bin" {
			t.Errorf("%s: %d bytes of %q arrived", kind, len(got), name)
		}
	}
}

// TestUploadOfAFailingReader proves that a file which can't be read to its end is never stored as if whole.
func TestUploadOfAFailingReader(t *testing.T) {
	for _, failure := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF} {
		ended := make(chan error, 1)
		g := &gateway{upload: func(stream uploadStream) error {
			_, _, err := received(stream)
			ended <- err
			return err
		}}
		file := io.MultiReader(strings.NewReader("the beginning"), iotest.ErrReader(failure))
		response, err := falrpc.Upload(within(t), client(t, g.serve(t)), &falrpcv1.UploadHeader{}, file)
		if response != nil || !errors.Is(err, failure) {
			t.Errorf("%v, %v, want %v", response, err, failure)
		}
		select {
		case err := <-ended:
			if status.Code(err) != codes.Canceled {
				t.Errorf("the gateway saw %v, want a cancelled call", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the call goes on")
		}
	}
}

// TestUploadThatIsRefused proves that the gateway's status arrives when it ends the call before the file does.
func TestUploadThatIsRefused(t *testing.T) {
	g := &gateway{upload: func(stream uploadStream) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		return failure(t, codes.PermissionDenied, ours())
	}}
	endless := iotest.HalfReader(zeros{})
	_, err := falrpc.Upload(within(t), client(t, g.serve(t)), nil, endless)
	if status.Code(err) != codes.PermissionDenied || falrpc.Reason(err) != "UPSTREAM_UNREACHABLE" {
		t.Error(err)
	}
}

// TestUploadHonoursItsContext proves that a deadline ends an upload that the gateway doesn't take, and one that
// passed before.
func TestUploadHonoursItsContext(t *testing.T) {
	g := &gateway{upload: func(stream uploadStream) error {
		<-stream.Context().Done()
		return stream.Context().Err()
	}}
	c := client(t, g.serve(t))
	for _, patience := range []time.Duration{200 * time.Millisecond, 0} {
		for _, file := range []io.Reader{zeros{}, silence{}} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			_, err := falrpc.Upload(ctx, c, &falrpcv1.UploadHeader{}, file)
			cancel()
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%T: %v, want DEADLINE_EXCEEDED", file, err)
			}
		}
	}
}

// silence never ends and has nothing.
type silence struct{}

func (silence) Read([]byte) (int, error) { return 0, nil }

// zeros never ends.
type zeros struct{}

func (zeros) Read(buffer []byte) (int, error) { return len(buffer), nil }
