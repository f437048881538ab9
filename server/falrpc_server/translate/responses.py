"""What fal's client returns, as responses of FalService. Pure."""

from collections.abc import Sequence

from google.protobuf import duration_pb2

from falrpc import v1
from falrpc_server.fal_http.model_events import (
    StepCompleted,
    StepError,
    StepSubmitted,
    UnknownEvent,
    WorkflowEvent,
    WorkflowFinished,
)
from falrpc_server.fal_http.models import (
    CallInfo,
    CancelOutcome,
    LogBatch,
    LogLine,
    Payload,
    QueueState,
    QueueStatus,
    RequestOutcome,
    RequestRef,
    StoredFile,
    Submitted,
)

__all__ = [
    "accepted",
    "cancel",
    "completed",
    "event",
    "event_output",
    "result",
    "run",
    "status",
    "stream_started",
    "stream_status",
    "submit",
    "subscribe_change",
    "upload",
    "workflow_event",
    "workflow_output",
    "workflow_started",
]

_STATES: dict[QueueState, v1.RequestState.ValueType] = {
    QueueState.UNKNOWN: v1.RequestState.REQUEST_STATE_UNSPECIFIED,
    QueueState.IN_QUEUE: v1.RequestState.REQUEST_STATE_IN_QUEUE,
    QueueState.IN_PROGRESS: v1.RequestState.REQUEST_STATE_IN_PROGRESS,
    QueueState.COMPLETED: v1.RequestState.REQUEST_STATE_COMPLETED,
}
_OUTCOMES: dict[RequestOutcome, v1.RequestOutcome.ValueType] = {
    RequestOutcome.UNKNOWN: v1.RequestOutcome.REQUEST_OUTCOME_UNSPECIFIED,
    RequestOutcome.SUCCEEDED: v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED,
    RequestOutcome.FAILED: v1.RequestOutcome.REQUEST_OUTCOME_FAILED,
    RequestOutcome.CANCELLED: v1.RequestOutcome.REQUEST_OUTCOME_CANCELLED,
}
_CANCEL_OUTCOMES: dict[CancelOutcome, v1.CancelOutcome.ValueType] = {
    CancelOutcome.UNSPECIFIED: v1.CancelOutcome.CANCEL_OUTCOME_UNSPECIFIED,
    CancelOutcome.OK: v1.CancelOutcome.CANCEL_OUTCOME_OK,
    CancelOutcome.CANCELLATION_REQUESTED: v1.CancelOutcome.CANCEL_OUTCOME_CANCELLATION_REQUESTED,
    CancelOutcome.ALREADY_COMPLETED: v1.CancelOutcome.CANCEL_OUTCOME_ALREADY_COMPLETED,
}


def run(payload: Payload) -> v1.RunResponse:
    """The response of Run."""
    return v1.RunResponse(output=_output(payload), call=_call_info(payload.call))


def submit(ref: RequestRef, submitted: Submitted) -> v1.SubmitResponse:
    """The response of Submit."""
    return v1.SubmitResponse(handle=_handle(ref), queue_position=submitted.queue_position)


def status(value: QueueStatus) -> v1.StatusResponse:
    """The response of Status."""
    return v1.StatusResponse(status=_status(value), logs=_entries(value.logs))


def stream_status(change: QueueStatus | LogBatch) -> v1.StreamStatusResponse:
    """A message of StreamStatus."""
    if isinstance(change, QueueStatus):
        return v1.StreamStatusResponse(status=_status(change))
    return v1.StreamStatusResponse(logs=_logs(change))


def result(payload: Payload, inference_seconds: float | None = None) -> v1.ResultResponse:
    """The response of Result."""
    return v1.ResultResponse(output=_output(payload), call=_call_info(payload.call, inference_seconds))


def cancel(outcome: CancelOutcome) -> v1.CancelResponse:
    """The response of Cancel."""
    return v1.CancelResponse(outcome=_CANCEL_OUTCOMES[outcome])


def accepted(ref: RequestRef) -> v1.SubscribeResponse:
    """The first message of Subscribe."""
    return v1.SubscribeResponse(accepted=_handle(ref))


def subscribe_change(change: QueueStatus | LogBatch) -> v1.SubscribeResponse:
    """A message of Subscribe about the request's way."""
    if isinstance(change, QueueStatus):
        return v1.SubscribeResponse(status=_status(change))
    return v1.SubscribeResponse(logs=_logs(change))


def completed(payload: Payload, inference_seconds: float | None) -> v1.SubscribeResponse:
    """The last message of Subscribe."""
    return v1.SubscribeResponse(result=result(payload, inference_seconds))


def stream_started(call: CallInfo) -> v1.StreamResponse:
    """The first message of Stream."""
    return v1.StreamResponse(started=_call_info(call))


def event(json_text: str) -> v1.StreamResponse:
    """One event of Stream."""
    return v1.StreamResponse(event=v1.Output(json=json_text))


def event_output(payload: Payload) -> v1.StreamResponse:
    """A whole answer as the one event of Stream."""
    return v1.StreamResponse(event=_output(payload))


def workflow_started(call: CallInfo) -> v1.StreamWorkflowResponse:
    """The first message of StreamWorkflow."""
    return v1.StreamWorkflowResponse(started=_call_info(call))


def workflow_output(payload: Payload) -> v1.StreamWorkflowResponse:
    """A whole answer as the output of StreamWorkflow."""
    return v1.StreamWorkflowResponse(output=v1.WorkflowOutput(output=_output(payload)))


def workflow_event(value: WorkflowEvent) -> v1.StreamWorkflowResponse:
    """One event of StreamWorkflow."""
    match value:
        case StepSubmitted(node_id, app_id, request_id):
            submitted = v1.WorkflowSubmit(node_id=node_id, app_id=app_id, request_id=request_id)
            return v1.StreamWorkflowResponse(submit=submitted)
        case StepCompleted(node_id, app_id, output_json):
            output = v1.Output(json=output_json)
            completion = v1.WorkflowCompletion(node_id=node_id, app_id=app_id, output=output)
            return v1.StreamWorkflowResponse(completion=completion)
        case WorkflowFinished(output_json):
            return v1.StreamWorkflowResponse(output=v1.WorkflowOutput(output=v1.Output(json=output_json)))
        case StepError():
            error = v1.WorkflowError(
                node_id=value.node_id,
                app_id=value.app_id,
                message=value.message,
                http_status=value.http_status,
                body_json=value.body_json,
            )
            return v1.StreamWorkflowResponse(error=error)
        case UnknownEvent(json_text):
            return v1.StreamWorkflowResponse(other_json=json_text)


def upload(stored: StoredFile) -> v1.UploadResponse:
    """The response of Upload."""
    return v1.UploadResponse(
        url=stored.url,
        size=stored.size,
        sha256=stored.sha256,
        content_type=stored.content_type,
        parts=stored.parts,
        retries=stored.resends,
    )


def _handle(ref: RequestRef) -> v1.RequestHandle:
    return v1.RequestHandle(
        endpoint_id=ref.endpoint.full, request_id=ref.request_id, ownership_token=ref.ownership_token
    )


def _output(payload: Payload) -> v1.Output:
    if payload.json_text is not None:
        return v1.Output(json=payload.json_text)
    return v1.Output(binary=v1.BinaryOutput(content_type=payload.content_type, data=payload.data))


def _call_info(call: CallInfo, inference_seconds: float | None = None) -> v1.CallInfo:
    return v1.CallInfo(
        request_id=call.request_id,
        billable_units=call.billable_units,
        served_from=call.served_from,
        inference_time=_duration(inference_seconds),
    )


def _status(value: QueueStatus) -> v1.RequestStatus:
    return v1.RequestStatus(
        state=_STATES[value.state],
        outcome=_OUTCOMES[value.outcome],
        queue_position=value.queue_position,
        error_type=value.error_type,
        error_message=value.error_message,
        inference_time=_duration(value.inference_seconds),
    )


def _duration(seconds: float | None) -> duration_pb2.Duration | None:
    if seconds is None or not 0 <= seconds < 1e9:
        return None
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def _logs(batch: LogBatch) -> v1.Logs:
    return v1.Logs(entries=_entries(batch.entries), dropped=batch.dropped)


def _entries(lines: Sequence[LogLine]) -> list[v1.LogEntry]:
    return [
        v1.LogEntry(timestamp=line.timestamp, level=line.level, source=line.source, message=line.message)
        for line in lines
    ]
