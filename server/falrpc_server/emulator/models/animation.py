"""Moving pictures: real animated files, made with Pillow. The same input gives the same bytes.

It knows frames, and nothing of HTTP, models or queues.
"""

import io
import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from falrpc_server.emulator.models import images

__all__ = ["CONTENT_TYPE", "Scene", "encode"]

# Pillow writes no MP4. Of the animated formats that every browser plays, WebP keeps all colours and times
# frames in milliseconds; GIF has 256 colours and hundredths of a second, and is twice as large and slow.
CONTENT_TYPE = "image/webp"

HOP = 0.05  # of the height
SQUASH = 0.06
HOPS_PER_SECOND = 1.5
BUBBLES = 14
GOLDEN_RATIO = 0.618034  # spreads them over the width


class Scene:
    """The creature that the prompt and seed ask for, hopping among rising bubbles.

    Attributes:
        frames_count: How many frames it has.
    """

    def __init__(self, prompt: str, seed: int, size: tuple[int, int], frames_count: int, fps: float) -> None:
        self.frames_count = frames_count
        # Whole ones, so that the end meets the start.
        self._hops = max(1, round(frames_count / fps * HOPS_PER_SECOND))
        still = images.draw_creature(prompt, seed, *size)
        self._creature = images.remove_background(still)
        self._background = still.crop((0, 0, 1, still.height)).resize(size)
        self._bubbles = _bubbles(*size)

    def frame(self, number: int) -> Image.Image:
        """Draws one frame."""
        width, height = self._creature.size
        done = number / self.frames_count
        image = self._background.copy()
        # Hard edges that never rest: the encoder drops a frame that looks like the one before.
        image.paste((255, 255, 255), mask=ImageChops.offset(self._bubbles, 0, -round(done * height)))
        up = abs(math.sin(math.pi * self._hops * done))
        squashed = round(height * (1 - SQUASH * (1 - up)))
        creature = self._creature.resize((width, squashed), Image.Resampling.BILINEAR)
        image.paste(creature, (0, height - squashed - round(HOP * height * up)), creature)
        return image

    def frames(self, first: int, end: int) -> list[Image.Image]:
        """Draws the frames from `first` up to but without `end`."""
        return [self.frame(number) for number in range(first, end)]


def encode(frames: Sequence[Image.Image], fps: float) -> bytes:
    """Writes an animated WebP that plays for ever.

    Args:
        fps: Frames per second; the times of frames are whole milliseconds that add up to the right length.
    """
    starts = [round(1000 * number / fps) for number in range(len(frames) + 1)]
    out = io.BytesIO()
    frames[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=[end - start for start, end in itertools.pairwise(starts)],
        loop=0,
        quality=70,
        method=0,  # the quickest
    )
    return out.getvalue()


def _bubbles(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    for number in range(BUBBLES):
        x, y = width * (number * GOLDEN_RATIO % 1), height * (number + 0.5) / BUBBLES
        radius = height / BUBBLES * (0.25 + 0.2 * (number % 3) / 2)  # none is cut by the upper or lower edge
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask
