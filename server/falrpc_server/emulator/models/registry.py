"""All models: endpoint id, what it does, how, its input, and how long it waits and works."""

from collections.abc import Awaitable, Callable
from typing import Any

from falrpc_server.emulator.answers import Answer, json_answer
from falrpc_server.emulator.models import media, pictures, scripted, texts, workflows
from falrpc_server.emulator.models.work import Model, Run, Work

__all__ = ["MODELS"]


def _billed(make: Callable[[Work], Awaitable[dict[str, Any]]]) -> Run:
    async def run(work: Work) -> Answer:
        return json_answer(await make(work), headers={"x-fal-billable-units": "1"})

    return run


_MODELS = (
    # Stand-ins for models of fal: what comes out is of the right kind, and made from the input.
    Model(
        "fal-ai/fast-sdxl",
        "Draws a creature.",
        _billed(pictures.draw),
        pictures.TEXT_TO_IMAGE,
        queue_seconds=0.6,
        seconds=0.8,
    ),
    Model(
        "fal-ai/flux/dev",
        "Draws a creature.",
        _billed(pictures.draw),
        pictures.TEXT_TO_IMAGE,
        queue_seconds=0.6,
        seconds=0.8,
    ),
    Model(
        "fal-ai/fast-sdxl/image-to-image",
        "Restyles a picture.",
        _billed(media.restyle),
        media.IMAGE_TO_IMAGE,
        queue_seconds=0.4,
        seconds=0.8,
    ),
    Model(
        "fal-ai/flux/dev/image-to-image",
        "Restyles a picture.",
        _billed(media.restyle),
        media.IMAGE_TO_IMAGE,
        queue_seconds=0.4,
        seconds=0.8,
    ),
    Model(
        "fal-ai/imageutils/rembg",
        "Removes the background of a picture.",
        _billed(pictures.cut_out),
        pictures.CUT_OUT,
        queue_seconds=0.2,
        seconds=0.4,
    ),
    Model(
        "fal-ai/face-to-sticker",
        "Draws a sticker's outline around a picture.",
        _billed(pictures.make_sticker),
        pictures.STICKER,
        queue_seconds=0.2,
        seconds=0.5,
    ),
    Model(
        "fal-ai/esrgan",
        "Enlarges a picture.",
        _billed(pictures.enlarge),
        pictures.ENLARGE,
        queue_seconds=0.2,
        seconds=0.5,
    ),
    Model(
        "fal-ai/ltx-video",
        "Animates a creature.",
        _billed(media.animate),
        media.TEXT_TO_VIDEO,
        queue_seconds=0.8,
        seconds=1.5,
    ),
    Model(
        "fal-ai/kokoro/american-english",
        "Speaks a text, in tones, as a WAV file.",
        _billed(media.speak),
        media.SPEECH,
        queue_seconds=0.2,
        seconds=0.6,
    ),
    Model(
        "fal-ai/whisper",
        "Writes down what the speaking model spoke.",
        _billed(media.transcribe),
        media.TRANSCRIPTION,
        queue_seconds=0.2,
        seconds=0.6,
    ),
    Model(
        "fal-ai/any-llm",
        "Writes text, cumulative when streamed.",
        _billed(texts.talk),
        texts.PROMPT,
        texts.talk_in_pieces,
        seconds=0.3,
    ),
    # Workflows. Their steps take as long as they do alone.
    Model(
        "workflows/fal-ai/sdxl-sticker",
        "Draws a creature and makes a sticker of it.",
        workflows.run(workflows.STICKER_STEPS),
        workflows.PROMPT_AND_SEED,
        workflows.stream(workflows.STICKER_STEPS),
        queue_seconds=0.2,
        billable_units=len(workflows.STICKER_STEPS),
    ),
    Model(
        "workflows/emulator/failing-step",
        "Its second step fails.",
        workflows.run(workflows.FAILING_STEPS),
        workflows.PROMPT_AND_SEED,
        workflows.stream(workflows.FAILING_STEPS),
        queue_seconds=0.2,
    ),
    Model(
        "workflows/emulator/replay",
        "A workflow that streams `events`, then ends as `end` says.",
        scripted.replayed_output,
        scripted.EVENTS,
        scripted.events,
    ),
    Model(
        "workflows/emulator/ticks",
        "A workflow of `events` events of `bytes`, one every `seconds`; the last one is its output.",
        scripted.total_of_ticks,
        scripted.TICKS,
        scripted.ticking_nodes,
    ),
    # Models that do what their input says, well or badly. Seconds in their inputs are real ones.
    Model(
        "emulator/echo",
        "Gives its input back, byte for byte.",
        scripted.echo,
        stream=scripted.echo_event,
    ),
    Model("emulator/sleep", "Takes `seconds`.", scripted.sleep, scripted.SECONDS),
    Model(
        "emulator/answer",
        "Answers with `status`, `headers`, `content_type` and `body` (JSON) or `text`.",
        scripted.answer,
        scripted.ANSWER,
        answers_stream=True,
    ),
    Model(
        "emulator/blob",
        "Answers with `bytes` bytes of JSON, or of `binary`.",
        scripted.blob,
        scripted.BLOB,
    ),
    Model(
        "emulator/fail",
        "Fails with a request error of `error_type`, or as an app with HTTP 500.",
        scripted.fail,
        scripted.FAIL,
        seconds=0.1,
    ),
    Model(
        "emulator/logs",
        "Logs `count` lines, and `late` ones after it has completed.",
        scripted.logs,
        scripted.LOGS,
    ),
    Model("emulator/cancellable", "Stops when it is cancelled.", scripted.cancellable, scripted.SECONDS),
    Model("emulator/stubborn", "Goes on when it is cancelled.", scripted.stubborn, scripted.SECONDS),
    Model(
        "emulator/events",
        "Streams `events`, then ends as `end` says.",
        scripted.last_event,
        scripted.EVENTS,
        scripted.events,
    ),
    Model(
        "emulator/ticks",
        "Streams `events` numbered events of `bytes`, one every `seconds`.",
        scripted.total_of_ticks,
        scripted.TICKS,
        scripted.ticks,
    ),
)

MODELS: dict[str, Model] = {model.endpoint_id: model for model in _MODELS}
"""Models by endpoint id."""
