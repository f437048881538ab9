"""What the user chose, as messages of the contract. A file in the input (`-i x=@cat.png`) is uploaded."""

import json
import sys
from pathlib import Path

import typer
from google.protobuf.duration_pb2 import Duration

from falrpc import v1
from falrpc_server.cli import inputs, uploads
from falrpc_server.cli.options import CallChoices, Handle, InputChoices, PriorityName, QueueChoices
from falrpc_server.cli.session import Session

__all__ = ["call_options", "duration", "input_message", "request_handle", "submit_request"]

_PRIORITIES = {PriorityName.NORMAL: v1.Priority.PRIORITY_NORMAL, PriorityName.LOW: v1.Priority.PRIORITY_LOW}


def input_message(session: Session, choices: InputChoices) -> v1.Input:
    """The model's input.

    Raises:
        typer.BadParameter: it is no input, or a file in it can't be read.
        grpc.RpcError: an upload failed.
    """
    try:
        pairs = inputs.parse_pairs(choices.pairs)
        base = _read_input_json(choices.input_json)
        inputs.compose(base, {})  # complains before anything is uploaded
        fields = {pair.key: pair.json_text or _upload(session, pair) for pair in pairs}
        return v1.Input(json=inputs.compose(base, fields))
    except inputs.InputError as error:
        raise typer.BadParameter(str(error)) from None


def call_options(choices: CallChoices) -> v1.CallOptions:
    """The options of a paid call.

    Raises:
        typer.BadParameter: a tag is not KEY=VALUE.
    """
    options = v1.CallOptions(runner_hint=choices.runner_hint)
    if choices.start_timeout is not None:
        options.start_timeout.CopyFrom(duration(choices.start_timeout))
    try:
        options.tags.update(inputs.parse_tags(choices.tags))
    except inputs.InputError as error:
        raise typer.BadParameter(str(error)) from None
    return options


def submit_request(
    session: Session, endpoint: str, choices: InputChoices, call: CallChoices, queue: QueueChoices
) -> v1.SubmitRequest:
    """What Submit and Subscribe submit. Raises as input_message and call_options."""
    options = call_options(call)  # complains before anything is uploaded
    return v1.SubmitRequest(
        endpoint_id=endpoint,
        input=input_message(session, choices),
        options=options,
        queue=_queue_options(queue),
    )


def _queue_options(choices: QueueChoices) -> v1.QueueOptions:
    return v1.QueueOptions(
        priority=_PRIORITIES[choices.priority] if choices.priority else v1.Priority.PRIORITY_UNSPECIFIED,
        no_retry=choices.no_retry,
        max_queue_length=choices.max_queue_length,
        webhook_url=choices.webhook,
    )


def request_handle(handle: Handle) -> v1.RequestHandle:
    """The handle of a request that was submitted before."""
    return v1.RequestHandle(
        endpoint_id=handle.endpoint, request_id=handle.request_id, ownership_token=handle.ownership_token
    )


def duration(seconds: float) -> Duration:
    """`seconds` as a protobuf duration."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def _read_input_json(source: str | None) -> str | None:
    try:
        if source == "-":
            return sys.stdin.read()
        if source is not None and source.startswith("@"):
            return Path(source[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--input-json {source}: {error}") from None
    return source


def _upload(session: Session, pair: inputs.Pair) -> str:
    assert pair.upload is not None
    if not pair.upload.is_file():
        raise typer.BadParameter(
            f"-i {pair.key}: there is no file {str(pair.upload)!r}; text that begins with @ is written "
            f"in quotes: -i '{pair.key}=\"@{pair.upload}\"'"
        )
    uploaded = uploads.send(session, uploads.Source(pair.upload, pair.upload.name))
    session.note(f"uploaded {pair.upload} as {uploaded.url}")
    return json.dumps(uploaded.url)
