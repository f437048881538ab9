"""The picture models, and a text model that streams."""

import base64
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from PIL import Image

from falrpc_server.emulator import images
from falrpc_server.emulator.answers import Answer, dump, json_answer, sse
from falrpc_server.emulator.inputs import Field, model_error
from falrpc_server.emulator.work import Model, Work

__all__ = ["PICTURE_MODELS", "cut_out", "draw", "make_sticker"]

SIDE_DEFAULT = 512
UPSCALED_SIDE_MAX = 4_096
WORDS_PER_EVENT = 3

IMAGE_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}

_BILLED = {"x-fal-billable-units": "1"}

TEXT_TO_IMAGE = (
    Field("prompt", "string", required=True),
    Field("seed", "integer"),
    Field("num_images", "integer", minimum=1, maximum=8),
    Field("image_size", "any"),
    Field("num_inference_steps", "integer", minimum=1, maximum=50),
    Field("sync_mode", "boolean"),
)


async def draw(work: Work) -> dict[str, Any]:
    """Text to image: the output as a value."""
    prompt, seed = work.input.get("prompt"), work.input.get("seed", 42)
    width, height = _size(work)
    steps = min(work.input.get("num_inference_steps", 4), 8)
    for step in range(1, steps + 1):
        await work.sleep(0.8 / steps)
        work.log(f"step {step}/{steps}", 0.0)
    pictures = []
    for number in range(int(work.input.get("num_images", 1))):
        make = partial(images.draw_creature, prompt, int(seed) + number, width, height)
        pictures.append(await _store(work, await work.draw(make), "image"))
    return {
        "images": pictures,
        "timings": {"inference": 0.8},
        "seed": work.input.raw("seed", "42"),
        "has_nsfw_concepts": [False] * len(pictures),
        "prompt": prompt,
    }


async def cut_out(work: Work) -> dict[str, Any]:
    """Background removal: the output as a value."""
    image = await _read_image(work, "image_url")
    await work.sleep(0.4)
    work.log("background removed", 0.0)
    return {"image": await _store(work, await work.draw(images.remove_background, image), "cutout")}


async def make_sticker(work: Work) -> dict[str, Any]:
    """Sticker: the output as a value."""
    image = await _read_image(work, "image_url")
    await work.sleep(0.5)
    if image.mode != "RGBA":
        image = await work.draw(images.remove_background, image)
    sticker = await _store(work, await work.draw(images.outline_sticker, image), "sticker")
    return {
        "images": [sticker],
        "sticker_image": sticker,
        "sticker_image_background_removed": sticker,
        "seed": work.input.raw("seed", "42"),
        "has_nsfw_concepts": {"sticker_image": False},
    }


async def _enlarge(work: Work) -> dict[str, Any]:
    image = await _read_image(work, "image_url")
    await work.sleep(0.5)
    factor = int(work.input.get("upscale_factor", 2))
    if factor * max(image.size) > UPSCALED_SIDE_MAX:
        url, side = work.input.get("image_url"), UPSCALED_SIDE_MAX // factor
        limits = {"max_height": side, "max_width": side}
        raise model_error("image_too_large", "image_url", "Image is too large", url, limits)
    return {"image": await _store(work, await work.draw(images.upscale, image, factor), "upscaled")}


async def _talk(work: Work) -> dict[str, Any]:
    await work.sleep(0.3)
    return {"output": _reply(work), "partial": False, "error": None}


async def _talk_in_pieces(work: Work) -> AsyncIterator[bytes]:
    """Cumulative text, as fal's text models stream (§8.2)."""
    words = _reply(work).split(" ")
    for end in range(WORDS_PER_EVENT, len(words), WORDS_PER_EVENT):
        yield sse(dump({"output": " ".join(words[:end]), "partial": True, "error": None}))
        await work.sleep(0.05)
    yield sse(dump({"output": " ".join(words), "partial": False, "error": None}))


def _reply(work: Work) -> str:
    return f"You asked: {work.input.get('prompt')} — here is an answer that comes a few words at a time."


def _size(work: Work) -> tuple[int, int]:
    asked, shown = work.input.get("image_size"), work.input.raw("image_size", "null")
    if isinstance(asked, dict):
        width, height = asked.get("width"), asked.get("height")
        if (
            isinstance(width, int)
            and isinstance(height, int)
            and 64 <= min(width, height) <= max(width, height) <= 2048
        ):
            return width, height
        raise model_error("value_error", "image_size", "width and height must be from 64 to 2048", shown)
    if asked is None:
        return SIDE_DEFAULT, SIDE_DEFAULT
    if not isinstance(asked, str) or asked not in IMAGE_SIZES:
        raise model_error(
            "literal_error", "image_size", f"Input should be one of {', '.join(IMAGE_SIZES)}", shown
        )
    return IMAGE_SIZES[asked]


async def _read_image(work: Work, name: str) -> Image.Image:
    file = await work.fetch(name)
    try:
        return await work.draw(images.decode, file.data)
    except images.NotAnImage:
        url = work.input.get(name)
        raise model_error("image_load_error", name, "Failed to load the image.", url) from None


async def _store(work: Work, image: Image.Image, name: str) -> dict[str, Any]:
    data = await work.draw(images.encode_png, image)
    if work.input.get("sync_mode", False):  # inline media instead of a URL, §6.4
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    else:
        url = work.storage.add(f"{name}.png", "image/png", data)
    return {
        "url": url,
        "width": image.width,
        "height": image.height,
        "content_type": "image/png",
        "file_name": f"{name}.png",
        "file_size": len(data),
    }


def _answering(make: Any) -> Any:
    async def run(work: Work) -> Answer:
        return json_answer(await make(work), headers=_BILLED)

    return run


_IMAGE_URL = Field("image_url", "string", required=True)

PICTURE_MODELS = (
    Model("fal-ai/fast-sdxl", "Draws a creature.", _answering(draw), TEXT_TO_IMAGE, queue_seconds=0.6),
    Model("fal-ai/flux/dev", "Draws a creature.", _answering(draw), TEXT_TO_IMAGE, queue_seconds=0.6),
    Model(
        "fal-ai/imageutils/rembg",
        "Removes the background.",
        _answering(cut_out),
        (_IMAGE_URL, Field("sync_mode", "boolean")),
        queue_seconds=0.2,
    ),
    Model(
        "fal-ai/face-to-sticker",
        "Draws a sticker's outline.",
        _answering(make_sticker),
        (_IMAGE_URL, Field("prompt", "string", required=True), Field("seed", "integer")),
        queue_seconds=0.2,
    ),
    Model(
        "fal-ai/esrgan",
        "Enlarges a picture.",
        _answering(_enlarge),
        (_IMAGE_URL, Field("upscale_factor", "integer", minimum=1, maximum=4)),
        queue_seconds=0.2,
    ),
    Model(
        "fal-ai/any-llm",
        "Writes text, a few words at a time when streamed.",
        _answering(_talk),
        (Field("prompt", "string", required=True),),
        stream=_talk_in_pieces,
    ),
)
