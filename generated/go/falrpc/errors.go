package falrpc

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SafeToRepeat says whether the same call may be made again: nothing of it was accepted, or it only read.
//
// Only falrpc's own word counts: a status that a proxy or a library made promises nothing.
func SafeToRepeat(err error) bool {
	return status.Code(err) == codes.Unavailable && detail[*errdetails.ErrorInfo](err) != nil
}

// Reason is the error's reason as docs/errors.md lists it, empty when the status is not falrpc's.
func Reason(err error) string { return detail[*errdetails.ErrorInfo](err).GetReason() }

// Metadata is what falrpc tells besides: delivery, request_id, http_status and others.
func Metadata(err error) map[string]string { return detail[*errdetails.ErrorInfo](err).GetMetadata() }

// RetryAfter is how long to wait before the same call may succeed; false when nothing is known of that.
func RetryAfter(err error) (time.Duration, bool) {
	info := detail[*errdetails.RetryInfo](err)
	return info.GetRetryDelay().AsDuration(), info != nil
}

// FieldViolations are the refused fields of the request, with fal's own paths below input.
func FieldViolations(err error) []*errdetails.BadRequest_FieldViolation {
	return detail[*errdetails.BadRequest](err).GetFieldViolations()
}

// detail returns the error's detail of a type, nil when it has none.
func detail[T any](err error) (found T) {
	for _, one := range status.Convert(err).Details() {
		if typed, ok := one.(T); ok {
			return typed
		}
	}
	return found
}
