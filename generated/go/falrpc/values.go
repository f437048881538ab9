package falrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

const chunkBytes = 256 << 10

// Input turns a value into a model's input, by its JSON form. Numbers keep all their digits.
func Input(value any) (*falrpcv1.Input, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("falrpc: input: %w", err)
	}
	return &falrpcv1.Input{Value: &falrpcv1.Input_Json{Json: string(text)}}, nil
}

// Decode reads a model's JSON output into what value points to. Into any, numbers come as json.Number: a seed of
// 64 bits is kept.
func Decode(output *falrpcv1.Output, value any) error {
	text, ok := output.GetValue().(*falrpcv1.Output_Json)
	if !ok {
		return fmt.Errorf("falrpc: the output is no JSON but %q", output.GetBinary().GetContentType())
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text.Json)))
	decoder.UseNumber()
	if err := decoder.Decode(value); err != nil {
		return fmt.Errorf("falrpc: output: %w", err)
	}
	return nil
}

// Upload stores what a reader has and returns where. Of the header only the file name is required.
func Upload(
	ctx context.Context, client falrpcv1.FalServiceClient, header *falrpcv1.UploadHeader, file io.Reader,
) (*falrpcv1.UploadResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a reader that fails leaves no half file
	stream, err := client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&falrpcv1.UploadRequest{Part: &falrpcv1.UploadRequest_Header{Header: header}})
	for err == nil {
		chunk := make([]byte, chunkBytes)
		count, failed := io.ReadFull(file, chunk)
		if count > 0 {
			err = stream.Send(&falrpcv1.UploadRequest{Part: &falrpcv1.UploadRequest_Chunk{Chunk: chunk[:count]}})
		}
		if errors.Is(failed, io.EOF) || errors.Is(failed, io.ErrUnexpectedEOF) {
			break
		}
		if failed != nil {
			return nil, failed
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the call has ended, and the answer says how
		return nil, err
	}
	return stream.CloseAndRecv()
}
