"""Writes docs/errors.md from the contract's comments and the service's own table, so that it can't drift."""

import re
from collections.abc import Iterator
from pathlib import Path

from google.rpc import code_pb2

from falrpc_server.translate import status_table
from falrpc_server.translate.status_table import Quota, Row

__all__ = ["render"]

PROTO = Path(__file__).parent.parent / "protos/falrpc/v1/error_reason.proto"
PREFIX = "ERROR_REASON_"

HEAD = """\
<!-- Written by `make gen` from protos/falrpc/v1/error_reason.proto and translate/status_table.py. -->
# Errors

Every status that falrpc makes carries a `google.rpc.ErrorInfo`. Feed your retry policy with the code; read
the rest from the details.

## What the codes promise

| Status | Promise |
|---|---|
| UNAVAILABLE with our ErrorInfo | nothing was accepted, or the call only read: repeat this call |
| ABORTED | the work ended and failed for a passing reason: submit again if you want it |
| UNKNOWN | the work may be running or paid: don't repeat; look at `request_id` |
| any status without our ErrorInfo | made by a client library, a proxy or gRPC itself: promises nothing |

CANCELLED is never sent. A failure that is read from a finished request is never UNAVAILABLE and has no
RetryInfo: reading it again returns it again.

## What became of the request

`ErrorInfo.metadata["delivery"]`:

| Value | Meaning |
|---|---|
| `NOT_SENT` | no byte of it left for fal |
| `REJECTED` | fal refused it before any work |
| `UNKNOWN` | bytes left; whether fal accepted it is not known |
| `ACCEPTED` | fal accepted it; its outcome is not known |
| `FAILED` | fal accepted it and it failed |

## The details

| Detail | When |
|---|---|
| `ErrorInfo` | always. `domain` is `fal.ai` when fal said it and `falrpc` when this service decided it |
| `BadRequest` | one violation per refused field: `input.loras[0].path`; odd keys are quoted: `input["a.b"]` |
| `RetryInfo` | when repeating this call can help |
| `QuotaFailure` | limits and the balance; subjects: {quotas} |
| `PreconditionFailure` | another state is needed first |
| `ResourceInfo` | something is not there: `fal.model`, `fal.request` |
| `RequestInfo` | fal's id of the request, for its support |
| `Help` | fal's page about the error |

A status takes at most 4,096 bytes and its message 300, so that a client with the smallest usual limit
(8,192 bytes of headers) can read it. What had no room is counted in the metadata entry `truncated`.

"""

RULE = """\
In the tables below, where its column is empty, `delivery` is REJECTED for 4xx; FAILED for 422, 424, 499,
model errors and 5xx with fal's request id; UNKNOWN for 5xx without it. It is FAILED for whatever is read from
a finished request.

"""

MODEL_ERRORS = """
## fal's model errors

The `type` of an entry of `detail`. Any other type with HTTP 422 is INVALID_ARGUMENT; the first one in the
table decides.

"""
HTTP_STATUSES = """
## HTTP statuses

For answers without a type above. When fal says that another try may succeed (`X-Fal-Needs-Retry`), INTERNAL
and UNKNOWN become ABORTED for paid calls and finished requests, and UNAVAILABLE for reads.

"""


def render() -> str:
    """The whole page."""
    quotas = ", ".join(f"`{quota.value}`" for quota in Quota)
    return (
        HEAD.replace("{quotas}", quotas)
        + RULE
        + "## fal's request errors\n\n"
        + "Domain `fal.ai`; the reason is the type in upper case, where no other is given.\n\n"
        + _table("`error_type`", status_table.REQUEST_ERRORS.items())
        + MODEL_ERRORS
        + _table("`type`", status_table.MODEL_ERRORS.items())
        + HTTP_STATUSES
        + _table("Status", status_table.HTTP_STATUSES.items())
        + "\n## Reasons of our own\n\nDomain `falrpc`.\n"
        + "".join(_reasons())
    )


def _table(title: str, rows: object) -> str:
    lines = [
        f"| {title} | Paid call | Read | Finished request | Reason | Delivery |",
        "|---|---|---|---|---|---|",
    ]
    for key, row in rows:  # type: ignore[attr-defined] # items of one of the table's dictionaries
        lines.append(
            f"| `{key}` | {_name(row.paid)} | {_name(row.read)} | {_name(row.stored)} | {_reason(key, row)}"
            f" | {row.delivery.name if row.delivery else ''} |"
        )
    return "\n".join(lines) + "\n"


def _name(code: int) -> str:
    return code_pb2.Code.Name(code)


def _reason(key: object, row: Row) -> str:
    return (
        f"`{row.reason}`" if row.reason else f"`{key.upper()}`" if isinstance(key, str) else f"`HTTP_{key}`"
    )


def _reasons() -> Iterator[str]:
    """Each reason with the comment that stands above it in the contract."""
    pattern = rf"((?:^ *//.*\n)+) *{PREFIX}([A-Z_]+) = \d+;"
    for comment, name in re.findall(pattern, PROTO.read_text(), re.MULTILINE):
        if name != "UNSPECIFIED":
            text = re.sub(r"^ *// ?", "", comment, flags=re.MULTILINE)
            meaning, _, example = text.partition("Example: ")
            yield f"\n### {name}\n\n{meaning.strip()}\n\n```json\n{' '.join(example.split())}\n```\n"
