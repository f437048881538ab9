"""What a call is told that this server refuses by itself. Pure."""

from google.rpc import code_pb2

from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.translate.status_table import Delivery
from falrpc_server.translate.verdicts import FieldViolation, Source, Verdict, present

__all__ = ["of_refusal"]

_CODES: dict[Kind, int] = {
    Kind.BAD_METADATA: code_pb2.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Kind.DENIED: code_pb2.PERMISSION_DENIED,
    Kind.NOT_FOUND: code_pb2.NOT_FOUND,
    Kind.OVERLOADED: code_pb2.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: code_pb2.UNAVAILABLE,
}
_GATEWAYS = (Kind.OVERLOADED, Kind.UNAVAILABLE)


def of_refusal(refusal: Refusal, endpoint_id: str, request_id: str) -> Verdict:
    """The call was refused before anything was sent."""
    verdict = Verdict(
        _CODES[refusal.kind],
        refusal.text,
        refusal.reason,
        metadata=present(delivery=Delivery.NOT_SENT.value, endpoint_id=endpoint_id, request_id=request_id),
        retry_seconds=refusal.retry_seconds,
        quota=refusal.subject,
        quota_text=refusal.text,
        request_id=request_id,
        source=Source.GATEWAY if refusal.kind in _GATEWAYS else Source.CALLER,
    )
    if refusal.field:
        verdict.violations = [FieldViolation(refusal.field, refusal.text)]
    if refusal.kind is Kind.NOT_FOUND:
        verdict.resource = ("fal.request", request_id)
    return verdict
