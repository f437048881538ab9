package falrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/status"

	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// Input returns value, encoded by encoding/json, as a model's input. Integers keep all their digits.
func Input(value any) (*falrpcv1.Input, error) {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("falrpc: input: %w", err)
	}
	return &falrpcv1.Input{Value: &falrpcv1.Input_Json{Json: strings.TrimSuffix(text.String(), "\n")}}, nil
}

// Decode stores a model's JSON output in what target points to, by the rules of encoding/json; but a number in
// an any is a [json.Number], so that a seed of 64 bits survives. An output that is not JSON is an error.
func Decode(output *falrpcv1.Output, target any) error {
	text, isJSON := output.GetValue().(*falrpcv1.Output_Json)
	if !isJSON || text.Json == "" {
		return fmt.Errorf("falrpc: output is not JSON but %q", output.GetBinary().GetContentType())
	}
	decoder := json.NewDecoder(strings.NewReader(text.Json))
	decoder.UseNumber()
	err := decoder.Decode(target)
	if _, rest := decoder.Token(); err == nil && rest != io.EOF {
		err = fmt.Errorf("more than one value")
	}
	if err != nil {
		return fmt.Errorf("falrpc: output: %w", err)
	}
	return nil
}

// Upload stores what file yields and returns its URL, for use in inputs. The header needs only a file name.
// When reading fails, no file is made, and the error wraps the reader's. Upload does not return from within a Read.
func Upload(
	ctx context.Context, client falrpcv1.FalServiceClient, header *falrpcv1.UploadHeader, file io.Reader,
) (*falrpcv1.UploadResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&falrpcv1.UploadRequest{Part: &falrpcv1.UploadRequest_Header{Header: header}})
	for buffer := make([]byte, 256<<10); err == nil; {
		count, failure := file.Read(buffer)
		if count > 0 {
			chunk := bytes.Clone(buffer[:count]) // gRPC may look at it later
			err = stream.Send(&falrpcv1.UploadRequest{Part: &falrpcv1.UploadRequest_Chunk{Chunk: chunk}})
		} else if failure == nil { // nothing yet
			err = status.FromContextError(ctx.Err()).Err()
		}
		if failure == io.EOF {
			break
		}
		if failure != nil {
			return nil, fmt.Errorf("falrpc: upload: %w", failure)
		}
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	return stream.CloseAndRecv() // on EOF of a Send, this tells how the call ended
}
