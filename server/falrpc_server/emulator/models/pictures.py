"""Models that make pictures, and change them."""

import base64
from functools import partial
from typing import Any

from PIL import Image

from falrpc_server.emulator.models import images
from falrpc_server.emulator.models.inputs import Field, model_error
from falrpc_server.emulator.models.work import Work

__all__ = [
    "CUT_OUT",
    "ENLARGE",
    "STICKER",
    "TEXT_TO_IMAGE",
    "cut_out",
    "draw",
    "enlarge",
    "make_sticker",
    "read_image",
    "store_image",
]

SIDE_DEFAULT = 512
UPSCALED_SIDE_MAX = 4_096

IMAGE_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}

TEXT_TO_IMAGE = (
    Field("prompt", "string", required=True),
    Field("seed", "integer"),
    Field("num_images", "integer", minimum=1, maximum=8),
    Field("image_size", "any"),
    Field("num_inference_steps", "integer", minimum=1, maximum=50),
    Field("sync_mode", "boolean"),
)

_IMAGE_URL = Field("image_url", "string", required=True)
CUT_OUT = (_IMAGE_URL, Field("sync_mode", "boolean"))
STICKER = (_IMAGE_URL, Field("prompt", "string", required=True), Field("seed", "integer"))
ENLARGE = (_IMAGE_URL, Field("upscale_factor", "integer", minimum=1, maximum=4))


async def draw(work: Work) -> dict[str, Any]:
    """Text to image: the output as a value."""
    prompt, seed = work.input.get("prompt"), work.input.get("seed", 42)
    width, height = _size(work)
    steps = min(int(work.input.get("num_inference_steps", 4)), 8)
    for step in range(1, steps + 1):
        await work.sleep(work.seconds / steps)
        work.log(f"step {step}/{steps}", 0.0)
    pictures = []
    for number in range(int(work.input.get("num_images", 1))):
        make = partial(images.draw_creature, prompt, int(seed) + number, width, height)
        pictures.append(await store_image(work, await work.compute(make), "image"))
    return {
        "images": pictures,
        "timings": {"inference": work.seconds},
        "seed": work.input.raw("seed", "42"),
        "has_nsfw_concepts": [False] * len(pictures),
        "prompt": prompt,
    }


async def cut_out(work: Work) -> dict[str, Any]:
    """Background removal: the output as a value."""
    image = await read_image(work, "image_url")
    await work.sleep(work.seconds)
    work.log("background removed", 0.0)
    return {"image": await store_image(work, await work.compute(images.remove_background, image), "cutout")}


async def make_sticker(work: Work) -> dict[str, Any]:
    """Sticker: the output as a value."""
    image = await read_image(work, "image_url")
    await work.sleep(work.seconds)
    if image.mode != "RGBA":
        image = await work.compute(images.remove_background, image)
    sticker = await store_image(work, await work.compute(images.outline_sticker, image), "sticker")
    return {
        "images": [sticker],
        "sticker_image": sticker,
        "sticker_image_background_removed": sticker,
        "seed": work.input.raw("seed", "42"),
        "has_nsfw_concepts": {"sticker_image": False},
    }


async def enlarge(work: Work) -> dict[str, Any]:
    """Upscaling: the output as a value."""
    image = await read_image(work, "image_url")
    await work.sleep(work.seconds)
    factor = int(work.input.get("upscale_factor", 2))
    if factor * max(image.size) > UPSCALED_SIDE_MAX:
        url, side = work.input.get("image_url"), UPSCALED_SIDE_MAX // factor
        limits = {"max_height": side, "max_width": side}
        raise model_error("image_too_large", "image_url", "Image is too large", url, limits)
    return {"image": await store_image(work, await work.compute(images.upscale, image, factor), "upscaled")}


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


async def read_image(work: Work, name: str) -> Image.Image:
    """Reads the picture at the URL in an input field. Raises AppError (§12.2)."""
    file = await work.fetch(name)
    try:
        return await work.compute(images.decode, bytes(file.data))
    except images.NotAnImage:
        url = work.input.get(name)
        raise model_error("image_load_error", name, "Failed to load the image.", url) from None


async def store_image(work: Work, image: Image.Image, name: str) -> dict[str, Any]:
    """Stores a picture and returns its Image object (§10.10)."""
    data = await work.compute(images.encode_png, image)
    if work.input.get("sync_mode", False):  # inline media instead of a URL, §6.4
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    else:
        url = work.keep(f"{name}.png", "image/png", data)
    return {
        "url": url,
        "width": image.width,
        "height": image.height,
        "content_type": "image/png",
        "file_name": f"{name}.png",
        "file_size": len(data),
    }
