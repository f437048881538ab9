"""Values that go into and come out of fal's HTTP API. Pure: no IO, no protobuf, no gRPC."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from falrpc_server.fal_http.accounts import Account

__all__ = [
    "NAMESPACES",
    "BadEndpointId",
    "CallInfo",
    "CallOptions",
    "CancelOutcome",
    "EndpointId",
    "LogBatch",
    "LogLine",
    "LogLines",
    "Operation",
    "Payload",
    "QueueOptions",
    "QueueState",
    "QueueStatus",
    "RequestOutcome",
    "RequestRef",
    "Scope",
    "StoredFile",
    "Submitted",
    "Upload",
    "is_endpoint_beginning",
    "is_request_id",
]

NAMESPACES = ("workflows", "comfy")  # the only two prefixes that are special, §3.1
ENDPOINT_ID_CHARACTERS_MAX = 512

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Operation(Enum):
    """One exchange with fal. The value names it in logs and error texts."""

    RUN = "run"
    STREAM = "stream"
    SUBMIT = "submit"
    STATUS = "status"
    STATUS_STREAM = "status stream"
    RESULT = "result"
    CANCEL = "cancel"
    UPLOAD_INITIATE = "upload initiation"
    UPLOAD_TOKEN = "upload token"  # noqa: S105 # its name
    UPLOAD_BEGIN = "begin of an upload in parts"
    UPLOAD_PUT = "upload"
    UPLOAD_PART = "upload of a part"
    UPLOAD_COMPLETE = "completion of an upload"

    @property
    def is_paid(self) -> bool:
        """Whether fal starts work that costs money when it accepts this."""
        return self in _PAID

    @property
    def is_upload(self) -> bool:
        """Whether it stores a file."""
        return self in _AT_STORAGE or self in (Operation.UPLOAD_INITIATE, Operation.UPLOAD_TOKEN)

    @property
    def has_own_credential(self) -> bool:
        """Whether it goes to fal's storage without our key, to a signed URL or with a token."""
        return self in _AT_STORAGE


_AT_STORAGE = frozenset(
    {
        Operation.UPLOAD_BEGIN,
        Operation.UPLOAD_PUT,
        Operation.UPLOAD_PART,
        Operation.UPLOAD_COMPLETE,
    }
)
_PAID = frozenset({Operation.RUN, Operation.STREAM, Operation.SUBMIT})


class BadEndpointId(ValueError):
    """The text is not an endpoint id; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class EndpointId:
    """A checked endpoint id: `[namespace/]owner/alias[/path]` (docs/fal-http-api.md §3.1).

    The grammar admits nothing that a URL class could read in two ways: no `..`, `//`, `%`, `?`,
    `#`, `\\` or control character ever reaches one.
    """

    full: str
    queue_base: str
    """The part that status, result and cancel URLs use: without the path (§3.2)."""

    @classmethod
    def parse(cls, text: str) -> "EndpointId":
        """Returns the checked id. Raises BadEndpointId."""
        if not text:
            raise BadEndpointId("is required, for instance fal-ai/flux/dev")
        if len(text) > ENDPOINT_ID_CHARACTERS_MAX:
            raise BadEndpointId(f"must be at most {ENDPOINT_ID_CHARACTERS_MAX} characters long")
        segments = text.split("/")
        for segment in segments:
            if not _SEGMENT.fullmatch(segment):
                raise BadEndpointId(
                    "must be owner/alias[/path]; each part starts with a letter, digit or underscore and "
                    f"goes on with those, '.' or '-': {segment[:64]!r} is no such part"
                )
        base = 3 if segments[0] in NAMESPACES else 2
        if len(segments) < base:
            wanted = "owner/alias" if base == 2 else f"{segments[0]}/owner/name"
            raise BadEndpointId(f"must have at least {base} parts: {wanted}")
        if "requests" in segments[base:]:  # what stands behind that is about a queue request (§3.2)
            raise BadEndpointId("must not have the part 'requests' behind owner/alias")
        return cls(text, "/".join(segments[:base]))


def is_endpoint_beginning(text: str) -> bool:
    """Whether endpoint ids can begin with these whole parts."""
    is_short = len(text) <= ENDPOINT_ID_CHARACTERS_MAX
    return is_short and all(_SEGMENT.fullmatch(segment) for segment in text.split("/"))


def is_request_id(text: str) -> bool:
    """Whether the text can be a queue request's id: fal sends UUIDs (§7.2)."""
    return _REQUEST_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Names one queue request.

    The token comes from its caller, and proves whose it is (access/ownership.py); fal knows nothing of it.
    """

    endpoint: EndpointId
    request_id: str
    ownership_token: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of a paid call that travel as headers (§4)."""

    start_timeout_seconds: float | None = None
    runner_hint: str = ""
    disable_fallback: bool = False
    store_io: bool | None = None
    output_lifecycle_json: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Options of a submission (§4, §7.2)."""

    low_priority: bool | None = None
    """None where the caller does not say: fal's default is normal, a policy's may be low."""
    no_retry: bool = False
    max_queue_length: int | None = None
    webhook_url: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to store (§10). An empty content type: not known yet."""

    file_name: str
    content_type: str
    lifecycle_json: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that fal has.

    Attributes:
        parts: In how many parts it went.
        resends: How often one of them was sent again.
    """

    url: str
    size: int
    sha256: bytes
    content_type: str
    parts: int = 1
    resends: int = 0


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What fal's response headers say about a call (§5)."""

    request_id: str = ""
    billable_units: str = ""
    served_from: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """A model's output, byte for byte."""

    content_type: str
    data: bytes
    json_text: str | None
    """The data as text when it is UTF-8 JSON, else None."""
    call: CallInfo = CallInfo()


@dataclass(frozen=True, slots=True)
class Submitted:
    """fal accepted a queue request (§7.2)."""

    request_id: str
    queue_position: int | None = None
    status_url: str = ""


class QueueState(Enum):
    """fal's three states, and one for what a later fal may send (§7.1)."""

    UNKNOWN = ""
    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"


class RequestOutcome(Enum):
    """How a completed request ended, as far as it is known."""

    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One entry of a request's log (§7.3)."""

    timestamp: str = ""
    level: str = ""
    source: str = ""
    message: str = ""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        text = self.timestamp + self.level + self.source + self.message
        return 100 + (len(text) if text.isascii() else len(text.encode(errors="surrogatepass")))


LogLines = tuple[LogLine, ...]


@dataclass(frozen=True, slots=True)
class LogBatch:
    """New entries of a request's log, and how many before them there are no more."""

    entries: LogLines
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of a queue request (§7.3). `state_word` is fal's word where it is none of the three."""

    state: QueueState
    state_word: str = ""
    outcome: RequestOutcome = RequestOutcome.UNKNOWN
    queue_position: int | None = None
    error_type: str = ""
    error_message: str = ""
    inference_seconds: float | None = None
    logs: LogLines = ()


class CancelOutcome(Enum):
    """fal's answer to a cancellation (§7.7)."""

    UNSPECIFIED = ""
    OK = "OK"
    CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"
    ALREADY_COMPLETED = "ALREADY_COMPLETED"


async def _nothing_to_commit() -> None:
    return None


def _nobody_to_tell(_: str) -> None:
    return None


def _nothing_noticed(_: str, __: str) -> None:
    return None


@dataclass(slots=True)
class Scope:
    """What one caller's call lends to every exchange that it makes with fal.

    Attributes:
        account: Whose money it may spend. Without one nothing is sent with a key.
        deadline: When the call must be over, on the event loop's clock; None for no limit.
        commit: Awaited once, just before a paid request is handed to the transport. After it nobody
            before us repeats the call, so it must not return until that holds.
        accepted: Told every request id as soon as it has been read from fal.
        noticed: Told what is odd about fal's answers but no failure: what it is, and the odd value.
        repeats: Whether exchanges that failed may be repeated in place.
        start_timeout_derived: Whether a run or stream without a start timeout gets one from the deadline.
        attempts: How many requests were handed to the transport; counted here, read by the log.
        committed: Whether commit was called.
        paid_bytes_may_have_left: Whether any byte of a paid request may have reached fal.
        finished_nodes: The steps of a workflow that have finished, as many as a status has room for.
    """

    account: Account | None = None
    deadline: float | None = None
    commit: Callable[[], Awaitable[None]] = _nothing_to_commit
    accepted: Callable[[str], None] = _nobody_to_tell
    noticed: Callable[[str, str], None] = _nothing_noticed
    repeats: bool = True
    start_timeout_derived: bool = False
    attempts: int = 0
    committed: bool = False
    paid_bytes_may_have_left: bool = False
    finished_nodes: list[str] = field(default_factory=list)
