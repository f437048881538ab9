"""Reads fal's error answers into one error type. Pure and total: any status, headers and bytes will do.

It knows every body shape of docs/fal-http-api.md §12.4, and nothing of what a status means to gRPC.
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from falrpc_server.fal_http.models import Operation

__all__ = [
    "DetailItem",
    "ErrorAnswer",
    "Failure",
    "FalError",
    "clean_text",
    "read",
    "text_of",
]

TEXT_CHARACTERS_MAX = 2_000
ITEMS_MAX = 500
LOC_PARTS_MAX = 32
RETRY_AFTER_SECONDS_MAX = 86_400

# Control characters, line ends, and what turns the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class DetailItem:
    """One entry of a model error's `detail` list (§12.2). Its `input` is left behind on purpose."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""
    type: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What an HTTP error answer said."""

    http_status: int
    request_id: str = ""
    error_type: str = ""
    text: str = ""
    items: tuple[DetailItem, ...] = ()
    items_left_out: int = 0
    is_platforms: bool = False
    """Whether fal's own header names the error_type: an app can put any into its body."""
    status_word: str = ""
    """`status` of the queue's bodies without detail: NOT_FOUND, ALREADY_COMPLETED."""
    needs_retry: bool | None = None
    timeout_type: str = ""
    retry_after_seconds: float | None = None
    billable_units: str = ""
    location_host: str = ""
    """Where a redirect points."""
    is_json: bool = False

    @property
    def may_be_outcome(self) -> bool:
        """Whether a result's error answer may be what the request ended with (§7.6, §17.1).

        Without fal's request id it is the edge's; a refused credential, an unknown request, a request that
        is not completed and fal's own limits are answers to the reading.
        """
        return (
            bool(self.request_id)
            and self.http_status != 401
            and not self.is_too_early
            and self.status_word != "NOT_FOUND"
            and self.error_type != "concurrent_requests_limit"
        )

    @property
    def is_outcome(self) -> bool:
        """may_be_outcome, as far as the answer alone can tell: unlike a refused reading."""
        is_ambiguous = self.http_status in (403, 405, 408) or (
            self.http_status == 404 and not self.text.startswith("Path ")
        )
        return self.may_be_outcome and not is_ambiguous

    @property
    def is_too_early(self) -> bool:
        """Whether a result was asked for before its request completed (§7.6)."""
        return self.http_status == 400 and "still in progress" in self.text.lower()

    @property
    def is_from_edge(self) -> bool:
        """Whether fal's edge proxy answered, not fal: no request id on a 502, 503 or 504 (§5)."""
        is_fals = self.request_id or self.error_type or self.timeout_type
        return self.http_status in (502, 503, 504) and not is_fals


class Failure(Enum):
    """In which way an exchange with fal failed."""

    ANSWER = "answer"
    """fal, its edge or a model answered with an error status."""
    UNREACHABLE = "unreachable"
    """No byte of the request left."""
    BUSY = "busy"
    """A limit of our own is reached: no byte of the request left."""
    SUSPENDED = "suspended"
    """The host only failed lately, so that it was not asked: no byte of the request left."""
    INTERRUPTED = "interrupted"
    """The connection broke, or fal was silent for too long, after bytes may have left."""
    TRUNCATED = "truncated"
    """A 200 whose body is not complete."""
    MALFORMED = "malformed"
    """A 2xx that breaks fal's own format."""
    TOO_LARGE = "too large"
    """The answer is larger than we pass on."""
    STREAM_TRUNCATED = "stream truncated"
    """A stream ended before its result."""
    STREAM_ERROR = "stream error"
    """A stream's last word was an error of the model's own."""
    NOT_COMPLETED = "not completed"
    """The wait for a request's completion is over."""
    HOST_REFUSED = "host refused"
    """fal named an upload host that is not on the list."""


class FalError(Exception):
    """An exchange with fal that did not give what was asked for.

    Attributes:
        operation: What was being done.
        failure: In which way it failed.
        answer: The HTTP error answer, when failure is ANSWER, else None.
        is_stored: Whether the answer is the outcome of a finished request, not of this exchange.
        endpoint_id, request_id: What it was about, where known.
        node_id, app_id: The workflow's step, where one failed.
        http_status: Status of the answer where it was not an error answer, 0 when there was none.
        hit_queue_limit: Whether the answer refuses a submission that named a longest queue.
        retry_after_seconds: When to try again, as fal or a limit of our own has it; None for no idea.
        is_callers_key: Whether it was about a key that the caller sent.
        text: fal's public text where it came otherwise than in an error answer.
        cause: The private cause, for the log: never a text of fal's or a caller's.
    """

    def __init__(
        self,
        operation: Operation,
        failure: Failure,
        cause: str,
        *,
        answer: ErrorAnswer | None = None,
        is_stored: bool = False,
        endpoint_id: str = "",
        request_id: str = "",
        node_id: str = "",
        app_id: str = "",
        http_status: int = 0,
        text: str = "",
        hit_queue_limit: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{operation.value}: {failure.value}: {cause}")
        self.operation = operation
        self.failure = failure
        self.answer = answer
        self.is_stored = is_stored
        self.endpoint_id = endpoint_id
        self.request_id = request_id
        self.node_id = node_id
        self.app_id = app_id
        self.http_status = answer.http_status if answer else http_status
        self.hit_queue_limit = hit_queue_limit
        self.retry_after_seconds = answer.retry_after_seconds if answer else retry_after_seconds
        self.is_callers_key = False
        self.text = text
        self.cause = cause


def read(status: int, headers: Mapping[str, str], body: bytes) -> ErrorAnswer:
    """Returns what an error answer says.

    Args:
        status: The HTTP status.
        headers: The response headers; names in lower case, or a case-insensitive mapping.
        body: The body, whole or cut.
    """
    document = _document(body)
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    detail = fields.get("detail")
    items, left_out = _items(fields.get("errors") if isinstance(detail, str | None) else detail)
    return ErrorAnswer(
        http_status=status,
        request_id=clean_text(headers.get("x-fal-request-id")),
        error_type=clean_text(fields.get("error_type")) or clean_text(headers.get("x-fal-error-type")),
        is_platforms="x-fal-error-type" in headers,
        text=_sentence(fields, detail),
        items=items,
        items_left_out=left_out,
        status_word=clean_text(fields.get("status")),
        needs_retry=_flag(headers.get("x-fal-needs-retry"), headers.get("x-fal-retryable")),
        timeout_type=clean_text(headers.get("x-fal-request-timeout-type")),
        retry_after_seconds=_seconds(headers.get("retry-after"), fields.get("retry_after")),
        billable_units=clean_text(headers.get("x-fal-billable-units")),
        location_host=_host(headers.get("location", "")),
        is_json=document is not None,
    )


def text_of(error_json: bytes) -> str:
    """What an error says that came in an event: one of §12.4's shapes, or a bare text."""
    document = _document(error_json)
    fields = document if isinstance(document, dict) else {"detail": document}
    return _sentence(fields, fields.get("detail"))


def _document(body: bytes) -> Any:
    """The body as JSON, or None. The standard parser: an offending `input` may hold lone surrogates,
    NaN or integers of any length, which stricter ones refuse together with the rest."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int:
    return int(digits[:20])  # only `loc` and `retry_after` are read, and both are small


def _sentence(fields: Mapping[str, Any], detail: Any) -> str:
    """The text of §12.4's shapes, most telling first."""
    error = fields.get("error")
    candidates = [
        detail,
        detail.get("message") if isinstance(detail, dict) else None,
        detail.get("msg") if isinstance(detail, dict) else None,
        fields.get("message"),
        error,
        error.get("message") if isinstance(error, dict) else None,
    ]
    for candidate in candidates:
        if text := clean_text(candidate):
            return text
    return ""


def _items(detail: Any) -> tuple[tuple[DetailItem, ...], int]:
    if isinstance(detail, dict) and ("msg" in detail or "type" in detail):
        detail = [detail]
    if not isinstance(detail, list):
        return (), 0
    items = []
    for entry in detail[:ITEMS_MAX]:
        if isinstance(entry, str):
            items.append(DetailItem(msg=clean_text(entry)))
        elif isinstance(entry, dict):
            loc = entry.get("loc", entry.get("field"))
            parts = loc if isinstance(loc, list) else [loc]
            items.append(
                DetailItem(
                    loc=tuple(
                        p if isinstance(p, int) else clean_text(p)
                        for p in parts[:LOC_PARTS_MAX]
                        if isinstance(p, str | int) and not isinstance(p, bool)
                    ),
                    msg=clean_text(entry.get("msg")) or clean_text(entry.get("message")),
                    type=clean_text(entry.get("type")),
                    url=clean_text(entry.get("url")),
                )
            )
    return tuple(item for item in items if item.msg or item.type), max(0, len(detail) - ITEMS_MAX)


def clean_text(value: Any) -> str:
    """The value when it is text, cut; what UTF-8 can't carry and what terminals obey is replaced."""
    if not isinstance(value, str):
        return ""
    text = value[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()
    return _CONTROL.sub(lambda found: " " if found[0].isspace() else "?", text)


def _host(url: str) -> str:
    try:
        return clean_text(urlsplit(url).hostname)
    except ValueError:
        return ""


def _flag(newer: str | None, older: str | None) -> bool | None:
    """`1`, `0`, `true` or `false`, the newer header's word first (§16.1 row 4)."""
    for value in (newer, older):
        if value is not None:
            word = value.strip().lower()
            if word in ("1", "true"):
                return True
            if word in ("0", "false"):
                return False
    return None


def _seconds(header: str | None, field: Any) -> float | None:
    """`Retry-After` in seconds or as an HTTP date, else the body's `retry_after`; never negative."""
    if header is not None:
        if re.fullmatch(r"-?[0-9]{1,1000}", header.strip()):
            return float(max(0, min(int(header.strip()[:20]), RETRY_AFTER_SECONDS_MAX)))
        try:
            moment = email.utils.parsedate_to_datetime(header)
            return max(0.0, min(moment.timestamp() - time.time(), float(RETRY_AFTER_SECONDS_MAX)))
        except (ValueError, OverflowError):
            pass
    if isinstance(field, int | float) and not isinstance(field, bool) and field >= 0:
        return float(min(field, RETRY_AFTER_SECONDS_MAX))
    return None
