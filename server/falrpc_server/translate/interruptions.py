"""What a call is told that something else than fal ended: its deadline, the server's end, a bug. Pure."""

from dataclasses import dataclass

from google.rpc import code_pb2

from falrpc_server.translate.status_table import Delivery
from falrpc_server.translate.verdicts import RETRY_SECONDS_DEFAULT, Source, Verdict, present

__all__ = ["CallProgress", "of_deadline", "of_drain", "of_internal_error", "of_stalled_reader"]


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How far a call had come when it was ended from outside.

    Attributes:
        is_paid: Whether it had begun something that costs money.
        attempts: How many requests it had handed to the transport.
        paid_bytes_may_have_left: Whether a paid request may have reached fal.
        has_handle: Whether it follows a queue request, which goes on without it.
    """

    is_paid: bool
    attempts: int
    paid_bytes_may_have_left: bool
    has_handle: bool
    endpoint_id: str
    request_id: str

    @property
    def delivery(self) -> Delivery:
        """What is known about the request."""
        if self.has_handle or (self.is_paid and self.request_id):
            return Delivery.ACCEPTED
        may_have_left = self.paid_bytes_may_have_left if self.is_paid else self.attempts > 0
        return Delivery.UNKNOWN if may_have_left else Delivery.NOT_SENT


def of_deadline(progress: CallProgress) -> Verdict:
    """The call's time is over."""
    return _cut_short(
        progress,
        Verdict(
            code_pb2.DEADLINE_EXCEEDED,
            "the call's deadline has passed",
            "CALL_DEADLINE_EXCEEDED",
            source=Source.CALLER,
        ),
    )


def of_drain(progress: CallProgress) -> Verdict:
    """This server is shutting down and can't wait for the call any longer."""
    verdict = Verdict(code_pb2.UNAVAILABLE, "the server is shutting down", "SERVER_DRAINING")
    if progress.is_paid and progress.delivery is not Delivery.NOT_SENT:
        verdict.code = code_pb2.UNKNOWN
    else:
        verdict.retry_seconds = RETRY_SECONDS_DEFAULT
    return _cut_short(progress, verdict)


def of_stalled_reader(progress: CallProgress) -> Verdict:
    """The caller has not read the stream for too long."""
    verdict = Verdict(
        code_pb2.UNAVAILABLE, "a message was left unread for too long", "READER_STALLED", source=Source.CALLER
    )
    if progress.is_paid and progress.delivery is not Delivery.NOT_SENT:
        verdict.code = code_pb2.UNKNOWN
    return _cut_short(progress, verdict)


def of_internal_error(call_id: str, progress: CallProgress) -> Verdict:
    """A bug of ours. The cause is in the log under the call's id, nowhere else."""
    message = f"internal error; the server's log has the cause under call_id {call_id}"
    verdict = Verdict(code_pb2.INTERNAL, message, "INTERNAL_ERROR", metadata={"call_id": call_id})
    return _cut_short(progress, verdict)


def _cut_short(progress: CallProgress, verdict: Verdict) -> Verdict:
    verdict.request_id = progress.request_id
    verdict.metadata |= present(
        delivery=progress.delivery.value,
        endpoint_id=progress.endpoint_id,
        request_id=progress.request_id,
    )
    return verdict
