"""Messages of the contract as text for people and as JSON for programs. Prints nothing itself.

In JSON the fields keep their names and enum values theirs; what is not set is left out; durations
are seconds; payloads stand where the text stood, not as a string, with every number as fal wrote it.
"""

import base64
import shlex
from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from falrpc import v1
from falrpc_server.cli.inputs import is_json

__all__ = [
    "call_sentence",
    "enum_word",
    "handle_words",
    "json_line",
    "log_line",
    "log_lines",
    "one_line",
    "plain",
    "pretty",
    "status_sentence",
    "to_value",
    "workflow_line",
    "workflow_words",
]


def to_value(message: Message) -> Any:
    """`message` as a value for `json_line`."""
    if isinstance(message, v1.Output):
        if message.WhichOneof("value") == "json":
            return _payload(message.json)
        data = base64.b64encode(message.binary.data).decode()
        return {"content_type": message.binary.content_type, "data_base64": data}
    if isinstance(message, Duration):
        return message.ToTimedelta().total_seconds()
    value: dict[str, Any] = {}
    for descriptor, content in message.ListFields():
        if descriptor.enum_type:
            known = descriptor.enum_type.values_by_number.get(content)
            value[descriptor.name] = known.name if known else content
        elif descriptor.message_type:
            repeated = not isinstance(content, Message)
            value[descriptor.name] = [to_value(item) for item in content] if repeated else to_value(content)
        elif isinstance(content, bytes):
            value[descriptor.name] = content.hex()
        elif descriptor.name.endswith("_json"):
            value[descriptor.name] = _payload(content)
        else:
            value[descriptor.name] = content
    return value


def json_line(value: Any) -> str:
    """`value` as JSON on one line. A line break in a payload can only be white space between tokens."""
    return msgspec.json.encode(value).decode().replace("\r", " ").replace("\n", " ")


def one_line(output: v1.Output) -> str:
    """An output for people, short."""
    if output.WhichOneof("value") == "binary":
        content_type = output.binary.content_type or "unknown type"
        return f"binary output, {content_type}, {len(output.binary.data)} bytes"
    return plain(output.json.replace("\r", " ").replace("\n", " "))


def pretty(output: v1.Output) -> str:
    """An output for people, indented. Numbers and strings stay as fal wrote them."""
    if output.WhichOneof("value") == "binary" or not is_json(output.json):
        return one_line(output)
    return plain(msgspec.json.format(output.json, indent=2))


def call_sentence(call: v1.CallInfo) -> str:
    """What fal said about a call, or nothing."""
    parts = [f"request {call.request_id}"] if call.request_id else []
    if call.HasField("inference_time"):
        parts.append(f"{call.inference_time.ToTimedelta().total_seconds():g} s of inference")
    if call.billable_units:
        parts.append(f"billable units {call.billable_units}")
    if call.served_from:
        parts.append(f"served from {call.served_from}")
    return plain(", ".join(parts))


def status_sentence(status: v1.RequestStatus) -> str:
    """Where a request stands, in fal's words."""
    words = enum_word(status, "state", "REQUEST_STATE_")
    if status.HasField("queue_position"):
        words += f", position {status.queue_position}"
    if status.outcome:
        words += f", {enum_word(status, 'outcome', 'REQUEST_OUTCOME_')}"
    if status.HasField("inference_time"):
        words += f", {status.inference_time.ToTimedelta().total_seconds():g} s of inference"
    failure = ": ".join(filter(None, (status.error_type, status.error_message)))
    return plain(f"{words}, {failure}" if failure else words)


def enum_word(message: Message, field: str, prefix: str) -> str:
    """The name of an enum field's value without the enum's own; its number when it has no name here."""
    number = getattr(message, field)
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    known = enum.values_by_number.get(number) if enum else None
    return known.name.removeprefix(prefix) if known else str(number)


def handle_words(handle: v1.RequestHandle) -> str:
    """A handle as the arguments of another command."""
    words = [handle.endpoint_id, handle.request_id]
    if handle.ownership_token:
        words.append(f"--ownership-token={handle.ownership_token}")
    return shlex.join(words)


def log_lines(logs: v1.Logs) -> list[str]:
    """Log entries for people, after the number of those that are missing."""
    missing = [f"({logs.dropped} log entries dropped)"] if logs.dropped else []
    return missing + [log_line(entry) for entry in logs.entries]


def log_line(entry: v1.LogEntry) -> str:
    """A log entry for people."""
    return plain(f"{entry.level or 'LOG'}: {entry.message}")


def workflow_line(message: v1.StreamWorkflowResponse) -> str:
    """A workflow's event for people, on one line."""
    return f"{message.WhichOneof('kind') or 'unknown':<10}  {workflow_words(message)}"


def workflow_words(message: v1.StreamWorkflowResponse) -> str:
    """What a workflow's event says: the step, and what became of it."""
    words: list[str] = []
    match message.WhichOneof("kind"):
        case "started":
            words = [call_sentence(message.started)]
        case "submit":
            words = [message.submit.node_id, message.submit.app_id, f"request {message.submit.request_id}"]
        case "completion":
            completion = message.completion
            words = [completion.node_id, completion.app_id, one_line(completion.output)]
        case "output":
            words = [one_line(message.output.output)]
        case "error":
            error = message.error
            status = f"HTTP {error.http_status}" if error.http_status else ""
            words = [error.node_id, error.app_id, error.message, status, error.body_json]
        case "other_json":
            words = [message.other_json]
    return plain("  ".join(filter(None, words))).replace("\n", " ")


def plain(text: str) -> str:
    """`text` without the control characters that could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _payload(text: str) -> Any:
    return msgspec.Raw(text.encode()) if is_json(text) else text
