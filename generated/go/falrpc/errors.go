package falrpc

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SafeToRepeat reports whether the call may be made again, after [RetryAfter]: nothing of it was accepted, or it only
// read. Only the gateway's word counts: a status that a proxy or gRPC made promises nothing.
// As with all functions here that take an error, err may wrap a status, and may be nil.
func SafeToRepeat(err error) bool {
	return status.Code(err) == codes.Unavailable && info(err) != nil
}

// Reason returns why the call failed, as docs/errors.md lists it, empty when the status is not the gateway's.
func Reason(err error) string { return info(err).GetReason() }

// Metadata returns what the gateway tells besides: delivery; where known request_id, http_status and others.
func Metadata(err error) map[string]string { return info(err).GetMetadata() }

// RetryAfter returns how long to wait before another try; ok is false when the status says nothing of that.
func RetryAfter(err error) (wait time.Duration, ok bool) {
	retry := detail[*errdetails.RetryInfo](err)
	return retry.GetRetryDelay().AsDuration(), retry != nil
}

// FieldViolations returns what is wrong with the request. A model's fields are below input: input.loras[0].path.
func FieldViolations(err error) []*errdetails.BadRequest_FieldViolation {
	return detail[*errdetails.BadRequest](err).GetFieldViolations()
}

// info returns the gateway's ErrorInfo, nil when something else made the status.
func info(err error) *errdetails.ErrorInfo {
	if found := detail[*errdetails.ErrorInfo](err); found.GetDomain() == "falrpc" || found.GetDomain() == "fal.ai" {
		return found
	}
	return nil
}

func detail[T any](err error) (none T) {
	for _, one := range status.Convert(err).Details() {
		if found, ok := one.(T); ok {
			return found
		}
	}
	return none
}
