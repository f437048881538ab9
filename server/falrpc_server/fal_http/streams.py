"""How a model's stream ends: which event is the result, and when there is none.

It knows what the events mean (model_events.py) and turns a stream that stops short into FalError.
"""

import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from falrpc_server.fal_http import error_bodies
from falrpc_server.fal_http.client import ModelStream
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.model_events import (
    BadEvent,
    ModelEvent,
    StepCompleted,
    StepError,
    UnknownEvent,
    WorkflowEvent,
    WorkflowFinished,
    read_model_event,
    read_workflow_event,
)
from falrpc_server.fal_http.models import EndpointId, Operation

__all__ = ["model_events", "workflow_events"]

_T = TypeVar("_T")

FINISHED_NODES_MAX = 100  # more have no room in a status


async def model_events(stream: ModelStream, endpoint: EndpointId) -> AsyncGenerator[str]:
    """Yields the events' JSON text unchanged; the last one before a normal end is the result (§8.1).

    Raises FalError when the stream breaks off, when its last event says that more would come
    (`partial`), or when it says that the model failed (`error`).
    """
    last: ModelEvent | None = None
    failure: FalError | None = None
    try:
        async with aclosing(_read_events(stream, endpoint, read_model_event)) as events:
            async for data, event in events:
                last = event
                yield data
    except FalError as error:
        failure = error
    else:
        if last is None or last.is_partial:
            failure = _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "no result")
        elif not stream.is_framed and not last.is_final:
            failure = _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "nothing proves that this was all")
    if last is not None and last.error_text and _is_cut(failure):
        raise _failed(stream, endpoint, Failure.STREAM_ERROR, "the model's own error", last.error_text)
    if failure:
        raise failure


async def workflow_events(stream: ModelStream, endpoint: EndpointId) -> AsyncGenerator[WorkflowEvent]:
    """Yields a workflow's events (§9). It must end with its output.

    Raises FalError when it does not: with the failure of the first step that reported one, else because
    the stream broke off. The nodes that have finished are noted in the stream's scope.
    """
    is_finished = False
    failed_step: StepError | None = None
    failure: FalError | None = None
    try:
        async with aclosing(_read_events(stream, endpoint, read_workflow_event)) as events:
            async for _, event in events:
                match event:
                    case WorkflowFinished():
                        is_finished = True
                    case StepError():
                        failed_step = failed_step or event  # others may follow from the first
                    case StepCompleted(node_id=node) | UnknownEvent(finished_node=node):
                        _note_finished(node, stream.scope.finished_nodes)
                yield event
    except FalError as error:
        failure = error
    if is_finished:  # nothing follows the output (§9), so that a cut behind it takes nothing away
        return
    if failed_step and not (failure and failure.failure is Failure.TOO_LARGE):  # which may be the output
        raise _step_failed(failed_step, stream, endpoint)
    raise failure or _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "no output")


async def _read_events(
    stream: ModelStream, endpoint: EndpointId, reader: Callable[[str], _T]
) -> AsyncGenerator[tuple[str, _T]]:
    """Yields the events' text and what it means. An unfinished one counts when it is whole JSON.

    Raises FalError: the stream's own rather than for an unfinished event.
    """
    cut: BadEvent | None = None
    is_finished = True
    async with aclosing(stream.events) as events:
        async for event in events:
            is_finished = event.is_finished
            try:
                value = reader(event.data)
            except BadEvent as error:
                if is_finished:
                    raise _failed(stream, endpoint, Failure.MALFORMED, str(error)) from error
                cut = error
            else:
                yield event.data, value
    if cut:
        raise _failed(stream, endpoint, Failure.STREAM_TRUNCATED, str(cut)) from cut
    if not is_finished:
        stream.scope.noticed("unfinished_event", endpoint.full)


def _is_cut(failure: FalError | None) -> bool:
    """Whether no more is known than that something is missing, so that an error told before explains it."""
    return failure is None or failure.failure is Failure.STREAM_TRUNCATED


def _note_finished(node_id: str, finished_nodes: list[str]) -> None:
    name = error_bodies.clean_text(node_id).replace(",", "?")  # a comma parts the names in a status
    if name and name not in finished_nodes and len(finished_nodes) < FINISHED_NODES_MAX:
        finished_nodes.append(name)


def _step_failed(step: StepError, stream: ModelStream, endpoint: EndpointId) -> FalError:
    answer = error_bodies.read(step.http_status, {}, step.body_json.encode())
    if not answer.text and not answer.items:
        text = error_bodies.clean_text(step.message) or error_bodies.text_of(step.body_json.encode())
        answer = dataclasses.replace(answer, text=text)
    return FalError(
        Operation.STREAM,
        Failure.ANSWER,
        f"a step: HTTP {step.http_status or 'status unsaid'}",
        answer=answer,
        is_stored=True,
        endpoint_id=endpoint.full,
        request_id=stream.call.request_id,
        node_id=step.node_id,
        app_id=step.app_id,
    )


def _failed(
    stream: ModelStream, endpoint: EndpointId, failure: Failure, cause: str, text: str = ""
) -> FalError:
    return FalError(
        Operation.STREAM,
        failure,
        cause,
        text=text,
        endpoint_id=endpoint.full,
        request_id=stream.call.request_id,
        http_status=200,
    )
