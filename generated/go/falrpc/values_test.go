package falrpc_test

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"testing"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

func jsonOutput(text string) *falrpcv1.Output {
	return &falrpcv1.Output{Value: &falrpcv1.Output_Json{Json: text}}
}

// TestInput proves that digits and text reach the model as they are.
func TestInput(t *testing.T) {
	type sdxl struct {
		Prompt string `json:"prompt"`
		Seed   uint64 `json:"seed"`
	}
	for _, one := range []struct {
		value any
		want  string
	}{
		{sdxl{"a <b> & c", 15860307465884635512}, `{"prompt":"a <b> & c","seed":15860307465884635512}`},
		{map[string]any{"seed": json.Number("1e3")}, `{"seed":1e3}`},
		{map[string]any{"seed": int64(math.MinInt64)}, `{"seed":-9223372036854775808}`},
		{json.RawMessage(`{"seed":123456789012345678901234567890}`), `{"seed":123456789012345678901234567890}`},
		{map[string]string{"prompt": "Grüße\n\"☂\""}, `{"prompt":"Grüße\n\"☂\""}`},
		{nil, `null`},
	} {
		input, err := falrpc.Input(one.value)
		if err != nil || input.GetJson() != one.want {
			t.Errorf("%s, %v, want %s", input.GetJson(), err, one.want)
		}
	}
}

// TestInputThatIsNoJSON proves that a value without a JSON form is an error of encoding/json.
func TestInputThatIsNoJSON(t *testing.T) {
	input, err := falrpc.Input(map[string]any{"scale": math.NaN()})
	var unsupported *json.UnsupportedValueError
	if input != nil || !errors.As(err, &unsupported) {
		t.Errorf("%v, %v", input, err)
	}
}

// TestDecode proves that integers of any length survive, typed and not.
func TestDecode(t *testing.T) {
	output := jsonOutput(`{"seed":15860307465884635512,"more":[123456789012345678901234567890,1e3,0.1]}`)
	var typed struct{ Seed uint64 }
	if err := falrpc.Decode(output, &typed); err != nil || typed.Seed != 15860307465884635512 {
		t.Errorf("%v, %v", typed, err)
	}
	var untyped any
	want := map[string]any{
		"seed": json.Number("15860307465884635512"),
		"more": []any{json.Number("123456789012345678901234567890"), json.Number("1e3"), json.Number("0.1")},
	}
	if err := falrpc.Decode(output, &untyped); err != nil || !reflect.DeepEqual(untyped, want) {
		t.Errorf("%v, %v", untyped, err)
	}
	again, err := falrpc.Input(untyped)
	if err != nil ||
		again.GetJson() != `{"more":[123456789012345678901234567890,1e3,0.1],"seed":15860307465884635512}` {
		t.Errorf("%v, %v", again, err)
	}
}

// TestDecodeFailures proves that what is no JSON, or of another type, is an error that says so.
func TestDecodeFailures(t *testing.T) {
	audio := &falrpcv1.Output{Value: &falrpcv1.Output_Binary{
		Binary: &falrpcv1.BinaryOutput{ContentType: "audio/wav", Data: []byte("RIFF")},
	}}
	var target struct{ Seed uint32 }
	for want, output := range map[string]*falrpcv1.Output{
		`falrpc: output is not JSON but "audio/wav"`: audio,
		`falrpc: output is not JSON but ""`:          nil,
		`falrpc: output: more than one value`:        jsonOutput(`{"seed": 1} {"seed": 2}`),
	} {
		if err := falrpc.Decode(output, &target); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, text := range []string{"", " ", `{"seed":`, `{"seed": 1} x`, `{"seed": 1}}`} {
		if err := falrpc.Decode(jsonOutput(text), &target); err == nil || err == io.EOF {
			t.Errorf("%q: %v", text, err)
		}
	}
	var mistyped *json.UnmarshalTypeError
	if err := falrpc.Decode(jsonOutput(`{"seed":15860307465884635512}`), &target); !errors.As(err, &mistyped) {
		t.Errorf("%v", err)
	}
	var invalid *json.InvalidUnmarshalError
	if err := falrpc.Decode(jsonOutput(`{}`), target); !errors.As(err, &invalid) {
		t.Errorf("%v", err)
	}
}
