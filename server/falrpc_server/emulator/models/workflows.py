"""Workflows (docs/fal-http-api.md §9): steps in a row, told as events when streamed."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from falrpc_server.emulator.answers import Answer, AppError, Raw, dump, json_answer, sse
from falrpc_server.emulator.models.inputs import Field, Input
from falrpc_server.emulator.models.pictures import cut_out, draw, make_sticker
from falrpc_server.emulator.models.work import Run, Stream, Work

__all__ = ["FAILING_STEPS", "PROMPT_AND_SEED", "STICKER_STEPS", "run", "stream"]

PROMPT_AND_SEED = (Field("prompt", "string", required=True), Field("seed", "integer"))

STEP_ERROR_BODY = Raw(
    '{"detail":[{"loc":["body","num_images"],"msg":"ensure this value is less than or equal to 8",'
    '"type":"value_error.number.not_le","ctx":{"limit_value":8}}]}'
)


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a workflow: what it calls, how long that takes, and its input from outputs before it."""

    node_id: str
    app_id: str
    seconds: float
    make: Callable[[Work], Awaitable[dict[str, Any]]]
    wire: Callable[[Input, list[dict[str, Any]]], dict[str, Any]]


async def _always_fails(work: Work) -> dict[str, Any]:
    await work.sleep(work.seconds)
    raise AppError(json_answer(STEP_ERROR_BODY, 422))


def _prompt_and_seed(given: Input, _: list[dict[str, Any]]) -> dict[str, Any]:
    return {"prompt": given.get("prompt"), "seed": given.raw("seed", "42")}


STICKER_STEPS = (
    Step("node_1", "fal-ai/fast-sdxl", 0.8, draw, _prompt_and_seed),
    Step(
        "node_2",
        "fal-ai/imageutils/rembg",
        0.4,
        cut_out,
        lambda _, outputs: {"image_url": outputs[0]["images"][0]["url"]},
    ),
    Step(
        "node_3",
        "fal-ai/face-to-sticker",
        0.5,
        make_sticker,
        lambda given, outputs: {**_prompt_and_seed(given, outputs), "image_url": outputs[1]["image"]["url"]},
    ),
)
FAILING_STEPS = (
    Step("node_1", "fal-ai/fast-sdxl", 0.8, draw, _prompt_and_seed),
    Step("node_2", "fal-ai/fast-sdxl", 0.1, _always_fails, lambda given, outputs: {"num_images": 9}),
)


async def _steps(steps: Sequence[Step], work: Work) -> AsyncIterator[dict[str, Any]]:
    """Yields the events of a workflow: its steps', then its output or its error."""
    outputs: list[dict[str, Any]] = []
    for step in steps:
        named = {"node_id": step.node_id, "app_id": step.app_id}
        request_id = work.ids.uuid()
        yield {"type": "submit", **named, "request_id": request_id}
        wired = step.wire(work.input, outputs)
        values = {n: json.loads(value) if isinstance(value, Raw) else value for n, value in wired.items()}
        given = Input(values, {name: dump(value) for name, value in wired.items()}, dump(wired).encode())
        try:
            outputs.append(await step.make(replace(work, input=given, seconds=step.seconds)))
        except AppError as error:
            status, body = error.answer.status, Raw(error.answer.body.decode())
            message = f"Error while fetching the result of the request {request_id}"
            error_of_step = {"status": status, "body": body}
            yield {"type": "error", "node_id": step.node_id, "message": message, "error": error_of_step}
            return
        yield {"type": "completion", **named, "output": outputs[-1]}
    last = outputs[-1]
    yield {"type": "output", "output": {"image": last.get("sticker_image"), "seed": last["seed"]}}


def run(steps: Sequence[Step]) -> Run:
    """A workflow that answers with its output, or the error of the step that failed."""

    async def answer(work: Work) -> Answer:
        event = [event async for event in _steps(steps, work)][-1]
        if event["type"] == "error":
            return json_answer(event["error"]["body"], event["error"]["status"])
        return json_answer(event["output"], headers={"x-fal-billable-units": str(len(steps))})

    return answer


def stream(steps: Sequence[Step]) -> Stream:
    """A workflow that tells of its steps."""

    async def events(work: Work) -> AsyncIterator[bytes]:
        async for event in _steps(steps, work):
            yield sse(dump(event))

    return events
