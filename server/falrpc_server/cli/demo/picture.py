"""The demo's pictures: one to upload, and the check of the one that comes back."""

import io
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, UnidentifiedImageError

__all__ = ["describe_picture", "photo_png", "transparent_share"]

_SIDE = 512


def photo_png() -> bytes:
    """A ball on a beach at dusk, as PNG: noisy and soft like a photo, the same bytes at every call."""
    grain = random.Random(1)  # noqa: S311  # film grain
    picture = Image.new("RGB", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(picture)
    for y in range(_SIDE):
        down = y / _SIDE
        sky = (60 + int(180 * down), 90 + int(70 * down), 160 - int(40 * down))
        sand = (196 - int(60 * down), 160 - int(50 * down), 110 - int(40 * down))
        draw.line((0, y, _SIDE, y), fill=sky if y < 330 else sand)
    for x in range(_SIDE):
        hill = 310 - 22 * math.sin(x / 70) - 9 * math.sin(x / 23)
        draw.line((x, hill, x, 335), fill=(58, 62, 92))
    draw.ellipse((370, 90, 430, 150), fill=(255, 214, 150))
    draw.ellipse((150, 405, 385, 450), fill=(86, 66, 52))
    picture = picture.filter(ImageFilter.GaussianBlur(3))
    draw = ImageDraw.Draw(picture)
    for step in range(110):
        light = step / 110
        radius, shift = 110 - step, step * 0.35
        box = (256 - radius + shift, 310 - radius - shift, 256 + radius + shift, 310 + radius - shift)
        draw.ellipse(box, fill=(120 + int(130 * light), 30 + int(150 * light), 40 + int(110 * light)))
    noise = Image.frombytes("L", (_SIDE, _SIDE), grain.randbytes(_SIDE * _SIDE)).convert("RGB")
    picture = Image.blend(picture.filter(ImageFilter.GaussianBlur(0.7)), noise, 0.06)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def describe_picture(path: Path) -> str:
    """Format and size of a picture.

    Raises:
        ValueError: it is no picture that can be decoded.
    """
    with _opened(path) as picture:
        return f"{picture.format} {picture.width}x{picture.height}"


def transparent_share(path: Path) -> float:
    """How much of a PNG is fully transparent, from 0 to 1.

    Raises:
        ValueError: it is no PNG, or has no alpha channel.
    """
    with _opened(path) as picture:
        if picture.format != "PNG":
            raise ValueError(f"{path} is {picture.format}, not PNG")
        if not picture.has_transparency_data:
            raise ValueError(f"{path} has no alpha channel (mode {picture.mode})")
        alpha = picture.convert("RGBA").getchannel("A")
        return alpha.histogram()[0] / (alpha.width * alpha.height)


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(path.read_bytes()))
        picture.load()
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is no picture: {error}") from error
    return picture
