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
from falrpc_server.fal_http.events import Event
from falrpc_server.fal_http.model_events import (
    BadEvent,
    ModelEvent,
    StepCompleted,
    StepError,
    WorkflowEvent,
    WorkflowFinished,
    read_model_event,
    read_workflow_event,
)
from falrpc_server.fal_http.models import EndpointId, Operation

__all__ = ["model_events", "workflow_events"]

_T = TypeVar("_T")

HTTP_STATUS_UNSAID = 500  # of a step's error that does not give one (§9)


async def model_events(stream: ModelStream, endpoint: EndpointId) -> AsyncGenerator[str]:
    """Yields the events' JSON text unchanged; the last one before a normal end is the result (§8.1).

    Raises FalError when the stream breaks off, when its last event says that more would come
    (`partial`), or when it says that the model failed (`error`).
    """
    last: ModelEvent | None = None
    async with aclosing(stream.events) as events:
        async for event in events:
            last = _read(read_model_event, event, stream, endpoint)
            yield event.data
    if last is not None and last.error_text:
        raise _failed(stream, endpoint, Failure.STREAM_ERROR, "the model's own error", last.error_text)
    if last is None or last.is_partial:
        raise _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "no result")
    if not stream.is_framed and not last.is_final:
        raise _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "nothing proves that this was all")


async def workflow_events(stream: ModelStream, endpoint: EndpointId) -> AsyncGenerator[WorkflowEvent]:
    """Yields a workflow's events (§9). It must end with its output.

    Raises FalError when it does not: with the step's own failure when one was reported, else because
    the stream broke off. It names the nodes that had finished.
    """
    is_finished = False
    failed_step: StepError | None = None
    finished_nodes: list[str] = []
    try:
        async with aclosing(stream.events) as events:
            async for event in events:
                value = _read(read_workflow_event, event, stream, endpoint)
                is_finished = is_finished or isinstance(value, WorkflowFinished)
                failed_step = value if isinstance(value, StepError) else failed_step
                if isinstance(value, StepCompleted):
                    finished_nodes.append(value.node_id)
                yield value
    except FalError as error:
        failure = error
    else:
        failure = _failed(stream, endpoint, Failure.STREAM_TRUNCATED, "no output")
    if is_finished:  # nothing follows the output (§9), so that a cut behind it takes nothing away
        return
    if failed_step is not None:
        failure = _step_failed(failed_step, stream, endpoint)
    failure.finished_nodes = tuple(finished_nodes)
    raise failure


def _read(reader: Callable[[str], _T], event: Event, stream: ModelStream, endpoint: EndpointId) -> _T:
    try:
        return reader(event.data)
    except BadEvent as error:
        failure = Failure.MALFORMED if event.is_finished else Failure.STREAM_TRUNCATED
        raise _failed(stream, endpoint, failure, str(error)) from error


def _step_failed(step: StepError, stream: ModelStream, endpoint: EndpointId) -> FalError:
    answer = error_bodies.read(step.http_status or HTTP_STATUS_UNSAID, {}, step.body_json.encode())
    if not answer.text and not answer.items:
        answer = dataclasses.replace(answer, text=error_bodies.clean_text(step.message))
    return FalError(
        Operation.STREAM,
        Failure.ANSWER,
        f"a step: HTTP {step.http_status}",
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
