"""What this server refuses by itself, before anything is sent to fal. Pure."""

from enum import Enum

__all__ = ["Kind", "Refusal"]


class Kind(Enum):
    """What sort of refusal it is; translate/refusals.py knows the status code of each."""

    BAD_METADATA = "bad metadata"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_FOUND = "not found"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


class Refusal(Exception):
    """A call that this server does not serve.

    Attributes:
        kind: What sort of refusal it is.
        reason: The ErrorReason without its prefix.
        text: The public sentence.
        cause: What only the log is told.
        field: The field of the request that is at fault, if one is.
        retry_seconds: When the same call may be served, None if waiting does not help.
        subject: Which limit it is, for google.rpc.QuotaFailure; empty for none.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        text: str,
        *,
        cause: str = "",
        field: str = "",
        retry_seconds: float | None = None,
        subject: str = "",
    ) -> None:
        super().__init__(f"{reason}: {cause or text}")
        self.kind = kind
        self.reason = reason
        self.text = text
        self.cause = cause
        self.field = field
        self.retry_seconds = retry_seconds
        self.subject = subject
