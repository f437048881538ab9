"""Pictures: real ones, made and changed with Pillow. The same input gives the same bytes.

It knows colours and shapes, and nothing of HTTP, models or queues.
"""

import hashlib
import io
import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

__all__ = [
    "NotAnImage",
    "decode",
    "draw_creature",
    "encode_png",
    "outline_sticker",
    "remove_background",
    "restyle",
    "upscale",
]

Color = tuple[int, int, int]

SUPERSAMPLING = 2
MASK_PIXELS = 320  # of the longer side; a background is found on a small copy
BACKGROUND_DISTANCE = 26  # largest difference of a colour channel that still counts as background
EDGE_DISTANCE = 70  # how much more than that is wholly subject
PIXELS_MAX = 40_000_000

_BODY_COLORS: tuple[Color, ...] = (
    (255, 138, 91),
    (94, 139, 255),
    (255, 189, 68),
    (120, 200, 120),
    (190, 120, 230),
    (240, 98, 146),
    (64, 190, 190),
)
_BACKGROUNDS: tuple[tuple[Color, Color], ...] = (
    ((222, 236, 250), (205, 222, 242)),
    ((250, 236, 222), (242, 222, 205)),
    ((230, 246, 232), (212, 234, 216)),
    ((240, 232, 250), (226, 214, 242)),
)


class NotAnImage(ValueError):
    """The bytes are no picture that can be read."""


def decode(data: bytes) -> Image.Image:
    """Reads a picture, as RGBA when something of it may be transparent, else as RGB. Raises NotAnImage."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > PIXELS_MAX:
            raise NotAnImage("too many pixels")
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except Exception as error:  # broken files make Pillow's decoders raise nearly anything
        raise NotAnImage(str(error)) from error


def encode_png(image: Image.Image) -> bytes:
    """Writes a PNG."""
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False, compress_level=6)
    return out.getvalue()


def draw_creature(prompt: str, seed: int, width: int, height: int) -> Image.Image:
    """Draws the creature that the prompt and seed ask for, on a plain background."""
    chance = _chance(prompt, seed)
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    image = _gradient(size, *chance.choice(_BACKGROUNDS))
    _Creature(image, chance, prompt.lower()).draw()
    return image.resize((width, height), Image.Resampling.LANCZOS)


def remove_background(image: Image.Image) -> Image.Image:
    """Makes the background transparent: what is connected to the border and coloured like it.

    The background may change from top to bottom: each row is compared with its own ends. What is
    connected is found on a small copy; in a band along the edge the full picture's colours decide.
    """
    color = image.convert("RGB")
    scale = MASK_PIXELS / max(color.size)
    small = color.resize((max(8, round(color.width * scale)), max(8, round(color.height * scale))))
    background = _background_mask(small)
    surely_subject = ImageChops.invert(background.filter(ImageFilter.MaxFilter(5))).resize(color.size)
    maybe_subject = ImageChops.invert(background.filter(ImageFilter.MinFilter(5))).resize(color.size)
    by_color = _distance_to_sides(color, small).point(
        [max(0, min(255, (value - BACKGROUND_DISTANCE) * 255 // EDGE_DISTANCE)) for value in range(256)]
    )
    alpha = ImageChops.darker(ImageChops.lighter(by_color, surely_subject), maybe_subject)
    if image.mode == "RGBA":
        alpha = ImageChops.darker(alpha, image.getchannel("A"))
    result = color.convert("RGBA")
    result.putalpha(alpha)
    return result


def outline_sticker(image: Image.Image) -> Image.Image:
    """Draws a white die-cut outline and a soft shadow around what is not transparent."""
    cut = image.convert("RGBA")
    box = cut.getchannel("A").getbbox() or (0, 0, cut.width, cut.height)
    subject = cut.crop(box)
    border = max(6, round(max(subject.size) * 0.035))
    margin = border * 3
    canvas = (subject.width + 2 * margin, subject.height + 2 * margin)
    alpha = Image.new("L", canvas)
    alpha.paste(subject.getchannel("A"), (margin, margin))
    outline = alpha.filter(ImageFilter.GaussianBlur(border * 0.75))
    outline = outline.point([max(0, min(255, (value - 18) * 12)) for value in range(256)])
    shadow = ImageChops.offset(outline, 0, border // 2).filter(ImageFilter.GaussianBlur(border * 0.6))
    sticker = Image.new("RGBA", canvas, (40, 44, 60, 0))
    sticker.putalpha(shadow.point([value * 90 // 255 for value in range(256)]))
    sticker.alpha_composite(_filled(canvas, (255, 255, 255), outline))
    subject_layer = Image.new("RGBA", canvas, (0, 0, 0, 0))
    subject_layer.paste(subject, (margin, margin))
    sticker.alpha_composite(subject_layer)
    return sticker


def upscale(image: Image.Image, factor: int) -> Image.Image:
    """Enlarges a picture."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def restyle(image: Image.Image, prompt: str, seed: int, strength: float) -> Image.Image:
    """Repaints a picture as a poster in colours that the prompt and seed choose.

    Args:
        strength: From 0, the picture as it is, to 1, wholly repainted. What is transparent stays so.
    """
    chance = _chance(prompt, seed)
    turn, ink = chance.randrange(32, 224), chance.randrange(360)
    color = image.convert("RGB")
    hue, saturation, value = color.convert("HSV").split()
    turned_hue = hue.point([(level + turn) % 256 for level in range(256)])
    turned = Image.merge("HSV", (turned_hue, saturation, value)).convert("RGB")
    # A picture without colours has no hue to turn: it gets them by brightness.
    dark, middle, light = (f"hsl({ink}, 65%, {lightness}%)" for lightness in (12, 45, 92))
    gray = color.convert("L")
    printed = ImageOps.colorize(gray, dark, light, mid=middle)
    poster = ImageOps.posterize(Image.blend(turned, printed, 0.5), 3)
    edges = ImageChops.difference(gray, gray.filter(ImageFilter.MaxFilter(3)))
    lines = ImageOps.invert(edges).convert("RGB")
    result = Image.blend(color, ImageChops.multiply(poster, lines), strength)
    if image.mode == "RGBA":
        result.putalpha(image.getchannel("A"))
    return result


def _chance(prompt: str, seed: int) -> random.Random:
    digest = hashlib.sha256(f"{prompt}\0{seed}".encode("utf-8", "replace")).digest()
    return random.Random(digest)  # noqa: S311 # it draws pictures


def _filled(size: tuple[int, int], color: Color, alpha: Image.Image) -> Image.Image:
    layer = Image.new("RGBA", size, color)
    layer.putalpha(alpha)
    return layer


def _gradient(size: tuple[int, int], top: Color, bottom: Color) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def _background_mask(small: Image.Image) -> Image.Image:
    """White where a small picture is background."""
    alike = _distance_to_sides(small, small).point(
        [255 if value <= BACKGROUND_DISTANCE else 0 for value in range(256)]
    )
    framed = Image.new("L", (small.width + 2, small.height + 2), 255)  # joins all border pixels
    framed.paste(alike, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    connected = framed.crop((1, 1, small.width + 1, small.height + 1))
    return connected.point([255 if value == 128 else 0 for value in range(256)])


def _distance_to_sides(image: Image.Image, small: Image.Image) -> Image.Image:
    """How far each pixel's colour is from the nearer end of its row in the small copy."""
    left = small.crop((0, 0, 1, small.height)).resize(image.size)
    right = small.crop((small.width - 1, 0, small.width, small.height)).resize(image.size)
    return ImageChops.darker(_distance(image, left), _distance(image, right))


def _distance(one: Image.Image, other: Image.Image) -> Image.Image:
    red, green, blue = ImageChops.difference(one, other).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


class _Creature:
    """A round friend, drawn from back to front. All lengths are shares of the picture's smaller side."""

    def __init__(self, image: Image.Image, chance: random.Random, prompt: str) -> None:
        self._draw = ImageDraw.Draw(image)
        self._chance = chance
        self._unit = min(image.size)
        self._x, self._y = image.width / 2, image.height * 0.54
        self._body = chance.choice(_BODY_COLORS)
        self._dark: Color = _shade(self._body, 0.62)
        self._light: Color = _tint(self._body, 0.45)
        self._is_robot = "robot" in prompt or "android" in prompt
        self._ears = "antenna" if self._is_robot else chance.choice(("round", "pointed", "antenna", "long"))
        if "cat" in prompt or "fox" in prompt:
            self._ears = "pointed"
        elif "rabbit" in prompt or "bunny" in prompt:
            self._ears = "long"
        elif "bear" in prompt or "mouse" in prompt:
            self._ears = "round"

    def draw(self) -> None:
        self._ears_and_limbs()
        self._body_shape()
        self._face()

    def _ears_and_limbs(self) -> None:
        for side in (-1, 1):
            self._ellipse(side * 0.13, 0.33, 0.085, 0.055, self._dark)
            self._ellipse(side * 0.30, 0.10, 0.06, 0.11, self._dark)
            match self._ears:
                case "round":
                    self._ellipse(side * 0.19, -0.25, 0.095, 0.095, self._dark)
                    self._ellipse(side * 0.19, -0.25, 0.055, 0.055, self._light)
                case "pointed":
                    self._polygon(
                        [(side * 0.07, -0.22), (side * 0.27, -0.42), (side * 0.27, -0.10)], self._dark
                    )
                    self._polygon(
                        [(side * 0.13, -0.23), (side * 0.24, -0.34), (side * 0.25, -0.17)], self._light
                    )
                case "long":
                    self._ellipse(side * 0.12, -0.34, 0.06, 0.16, self._dark)
                    self._ellipse(side * 0.12, -0.34, 0.03, 0.11, self._light)
                case _:
                    self._line((side * 0.10, -0.24), (side * 0.16, -0.37), 0.02, self._dark)
                    self._ellipse(side * 0.16, -0.39, 0.035, 0.035, (255, 209, 102))

    def _body_shape(self) -> None:
        if self._is_robot:
            self._box(-0.29, -0.29, 0.29, 0.32, 0.10, self._dark)
            self._box(-0.27, -0.27, 0.27, 0.30, 0.09, self._body)
            self._box(-0.22, -0.20, 0.22, 0.08, 0.07, _shade(self._body, 0.35))
            for column in (-0.10, 0.0, 0.10):
                self._ellipse(column, 0.19, 0.03, 0.03, self._light)
        else:
            self._ellipse(0, 0.02, 0.30, 0.31, self._dark)
            self._ellipse(0, 0.01, 0.28, 0.29, self._body)
            self._ellipse(0, 0.14, 0.17, 0.14, self._light)
            self._ellipse(-0.11, -0.16, 0.07, 0.045, _tint(self._body, 0.3))

    def _face(self) -> None:
        apart = self._chance.uniform(0.095, 0.12)
        for side in (-1, 1):
            self._ellipse(side * apart, -0.06, 0.062, 0.072, (255, 255, 255))
            self._ellipse(side * apart + 0.008, -0.052, 0.036, 0.044, (36, 38, 52))
            self._ellipse(side * apart + 0.022, -0.072, 0.014, 0.014, (255, 255, 255))
            if not self._is_robot:
                self._ellipse(side * 0.185, 0.035, 0.036, 0.022, _tint((240, 98, 146), 0.25))
        lower = 0.0 if self._is_robot else 0.02
        self._smile(lower, (255, 255, 255) if self._is_robot else (36, 38, 52))

    def _smile(self, y: float, color: Color) -> None:
        steps = 96
        points = [
            (0.07 * math.cos(math.pi * n / steps), y + 0.05 * math.sin(math.pi * n / steps))
            for n in range(steps + 1)
        ]
        for point in points:
            self._ellipse(point[0], point[1], 0.009, 0.009, color)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._x + x * self._unit, self._y + y * self._unit

    def _ellipse(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        self._draw.ellipse((*self._at(x - rx, y - ry), *self._at(x + rx, y + ry)), fill=color)

    def _box(self, x0: float, y0: float, x1: float, y1: float, radius: float, color: Color) -> None:
        box = (*self._at(x0, y0), *self._at(x1, y1))
        self._draw.rounded_rectangle(box, radius=radius * self._unit, fill=color)

    def _polygon(self, points: list[tuple[float, float]], color: Color) -> None:
        self._draw.polygon([self._at(x, y) for x, y in points], fill=color)

    def _line(self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color) -> None:
        self._draw.line([self._at(*start), self._at(*end)], fill=color, width=round(width * self._unit))


def _shade(color: Color, share: float) -> Color:
    return (int(color[0] * share), int(color[1] * share), int(color[2] * share))


def _tint(color: Color, share: float) -> Color:
    red, green, blue = (int(c + (255 - c) * share) for c in color)
    return (red, green, blue)
