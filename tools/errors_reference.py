"""Writes docs/errors.md: errors.md beside this file, with tables from the status table and the contract."""

import re
from collections.abc import Mapping
from pathlib import Path

from google.rpc import code_pb2

from falrpc_server.translate import status_table
from falrpc_server.translate.status_table import Quota, Row

__all__ = ["render"]

TEMPLATE = Path(__file__).with_name("errors.md")
PROTO = Path(__file__).parent.parent / "protos/falrpc/v1/error_reason.proto"
MARK = "<!-- Written by `make gen` from tools/errors.md, the status table and the contract. -->\n"
PREFIX = "ERROR_REASON_"
SPECIAL = {
    "401": status_table.OWN_KEY_REFUSED,
    "401 for a key that the caller sent": status_table.CALLERS_KEY_REFUSED,
    "403 with an exhausted balance or a locked account": status_table.BALANCE_EXHAUSTED,
    "404 to Run, Submit or Stream": status_table.ENDPOINT_NOT_FOUND,
    "404 to Status, StreamStatus, Result or Cancel": status_table.REQUEST_NOT_FOUND,
    "404 `Path /stream not found` to Stream": status_table.STREAMING_NOT_SUPPORTED,
    "404 as an outcome": status_table.SOMETHING_NOT_FOUND,
    "400 to Result before the request has completed": status_table.NOT_COMPLETED,
    "429 to a Submit with `max_queue_length`": status_table.QUEUE_TOO_LONG,
    "504 with `X-Fal-Request-Timeout-Type: user`": status_table.START_TIMEOUT,
    "3xx and any status that is not listed": status_table.ANYTHING_ELSE,
}
EXCHANGES = {
    "a paid call is cut, or answered by the edge": status_table.INTERRUPTED_PAID,
    "a read is cut, or answered by the edge": status_table.INTERRUPTED_READ,
    **{failure.value: row for failure, row in status_table.FAILURES.items()},
}


def render() -> str:
    """The whole page."""
    tables = {
        "quotas": ", ".join(f"`{quota.value}`" for quota in Quota),
        "special answers": _table("Answer", SPECIAL, "HTTP_…"),
        "exchanges": _table("What happened", EXCHANGES, ""),
        "request errors": _typed("`error_type`", status_table.REQUEST_ERRORS),
        "model errors": _typed("`type`", status_table.MODEL_ERRORS),
        "statuses": _typed("Status", status_table.HTTP_STATUSES),
        "reasons": _reasons(),
    }
    page = TEMPLATE.read_text()
    for name, text in tables.items():
        page = page.replace(f"{{{name}}}", text)
    return MARK + page


def _typed(title: str, rows: Mapping[str, Row] | Mapping[int, Row]) -> str:
    """A table whose rows are named by fal: the reason is that name where the row has none of its own."""
    lines = _head(title)
    for key, row in rows.items():
        lines.append(_line(f"`{key}`", row, f"HTTP_{key}" if isinstance(key, int) else key.upper()))
    return "\n".join(lines)


def _table(title: str, rows: Mapping[str, Row], reason: str) -> str:
    return "\n".join([*_head(title), *(_line(name, row, reason) for name, row in rows.items())])


def _head(title: str) -> list[str]:
    return [
        f"| {title} | Paid call | Read | Finished request | Reason | Delivery |",
        "|---|---|---|---|---|---|",
    ]


def _line(name: str, row: Row, reason: str) -> str:
    codes = (code_pb2.Code.Name(code) for code in (row.paid, row.read, row.stored))
    delivery = row.delivery.name if row.delivery else ""
    return f"| {name} | {' | '.join(codes)} | `{row.reason or reason}` | {delivery} |"


def _reasons() -> str:
    """Each reason with the comment that stands above it in the contract."""
    sections = []
    pattern = rf"((?:^ *//.*\n)+) *{PREFIX}([A-Z_]+) = \d+;"
    for comment, name in re.findall(pattern, PROTO.read_text(), re.MULTILINE):
        if name != "UNSPECIFIED":
            meaning, _, example = re.sub(r"^ *// ?", "", comment, flags=re.MULTILINE).partition("Example: ")
            code = f"```json\n{' '.join(example.split())}\n```"
            sections.append(f"### {name}\n\n{meaning.strip()}\n\n{code}")
    return "\n\n".join(sections)
