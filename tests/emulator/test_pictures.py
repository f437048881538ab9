"""Real pictures: drawn, cut out, made stickers, enlarged (§6.4, §9)."""

import base64
import io
import json
import random
from typing import Any

import pytest
from PIL import Image, ImageDraw
from tests.emulator.running import Emulator, events

WORKFLOW = "workflows/fal-ai/sdxl-sticker"
SEED = "15860307465884635512"


def opened(emulator: Emulator, url: str) -> Image.Image:
    data = emulator.http.get(url).raise_for_status().content
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return Image.open(io.BytesIO(data))


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def photo() -> Image.Image:
    """A red ball on a noisy blue background that gets lighter downwards."""
    chance = random.Random(1)
    image = Image.new("RGB", (400, 300))
    image.putdata(
        [
            (60 + chance.randrange(12), 90 + y // 6 + chance.randrange(12), 200 + chance.randrange(12))
            for y in range(300)
            for x in range(400)
        ]
    )
    ImageDraw.Draw(image).ellipse((140, 90, 260, 210), fill=(210, 40, 40))
    return image


def alpha_at(image: Image.Image, *points: tuple[int, int]) -> list[Any]:
    alpha = image.getchannel("A")
    return [alpha.getpixel(point) for point in points]


@pytest.fixture(scope="module")
def workflow(one_emulator: Emulator) -> list[dict[str, Any]]:
    """The events of one sticker workflow."""
    given = f'{{"prompt":"a cat","seed":{SEED}}}'
    texts = events(one_emulator.stream(WORKFLOW, given).text)
    assert all(f'"seed":{SEED}' in text for text in (texts[1], texts[5], texts[6]))
    return [json.loads(text) for text in texts]


def test_the_steps_of_a_workflow(workflow: list[dict[str, Any]]) -> None:
    """Each step is told when it is submitted and when it is complete, then the output."""
    kinds = [(event["type"], event.get("node_id"), event.get("app_id")) for event in workflow]
    steps = [
        ("node_1", "fal-ai/fast-sdxl"),
        ("node_2", "fal-ai/imageutils/rembg"),
        ("node_3", "fal-ai/face-to-sticker"),
    ]
    told = [(kind, *step) for step in steps for kind in ("submit", "completion")]
    assert kinds == [*told, ("output", None, None)]


def test_a_sticker(one_emulator: Emulator, workflow: list[dict[str, Any]]) -> None:
    """The sticker is transparent around a white outline around the creature."""
    told = workflow[-1]["output"]["image"]
    sticker = opened(one_emulator, told["url"])
    assert (sticker.mode, sticker.size) == ("RGBA", (told["width"], told["height"]))
    width, height = sticker.size
    assert alpha_at(sticker, (0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)) == [0] * 4
    row = [sticker.getpixel((x, height // 2)) for x in range(width)]
    opaque = [pixel[:3] for pixel in row if pixel[3] == 255]
    for outline in (opaque[:6], opaque[-6:]):
        assert outline == [(255, 255, 255)] * 6
    assert any(max(pixel) - min(pixel) > 60 for pixel in opaque)


def test_a_cutout(one_emulator: Emulator, workflow: list[dict[str, Any]]) -> None:
    """Background removal leaves the creature: opaque inside, nothing outside, a soft edge between."""
    cutout = opened(one_emulator, workflow[3]["output"]["image"]["url"])
    assert alpha_at(cutout, (0, 0), (511, 0), (0, 511), (511, 511), (256, 290)) == [0, 0, 0, 0, 255]
    counts = cutout.getchannel("A").histogram()
    assert 0.2 < counts[255] / sum(counts) < 0.7
    assert 0.001 < sum(counts[1:255]) / sum(counts) < 0.03


def test_prompt_and_seed_make_the_picture(emulator: Emulator) -> None:
    """The same prompt and seed give the same bytes; another prompt or seed gives others."""

    def draw(prompt: str, seed: int) -> bytes:
        given = {"prompt": prompt, "seed": seed, "image_size": {"width": 96, "height": 64}}
        [told] = emulator.run("fal-ai/fast-sdxl", given).json()["images"]
        assert opened(emulator, told["url"]).size == (96, 64)
        return emulator.http.get(told["url"]).content

    assert draw("a cat", 7) == draw("a cat", 7)
    assert len({draw("a cat", 7), draw("a cat", 8), draw("a dog", 7)}) == 3


@pytest.mark.parametrize("seed", [SEED, "1e3", "7", "null"])
def test_a_seed_keeps_its_spelling(emulator: Emulator, seed: str) -> None:
    """A seed comes back as it was written; no seed is 42."""
    given = f'{{"prompt":"a","seed":{seed},"image_size":{{"width":64,"height":64}}}}'
    assert f'"seed":{"42" if seed == "null" else seed},' in emulator.run("fal-ai/flux/dev", given).text
    workflow = f'{{"prompt":"a","seed":{seed}}}'
    assert events(emulator.stream("workflows/emulator/failing-step", workflow).text)[1].count('"output"') == 1


def test_the_background_of_a_photo(emulator: Emulator) -> None:
    """A noisy, uneven background is removed from an uploaded picture and the subject stays."""
    given = {"image_url": emulator.upload(png(photo()))}
    told = emulator.run("fal-ai/imageutils/rembg", given).json()["image"]
    cutout = opened(emulator, told["url"])
    assert cutout.size == (400, 300)
    around = [(5, 5), (394, 5), (5, 294), (394, 294), (200, 60), (110, 150), (290, 150), (200, 240)]
    assert alpha_at(cutout, *around) == [0] * len(around)
    assert alpha_at(cutout, (200, 150), (150, 150), (250, 150), (200, 100), (200, 200)) == [255] * 5


def test_what_is_transparent_stays_so(emulator: Emulator) -> None:
    """A picture that is cut out already is made a sticker as it is."""
    image = Image.new("RGBA", (80, 80))
    ImageDraw.Draw(image).rectangle((20, 20, 60, 60), fill=(0, 0, 255, 255))
    given = {"image_url": emulator.upload(png(image)), "prompt": "a"}
    sticker = opened(emulator, emulator.run("fal-ai/face-to-sticker", given).json()["sticker_image"]["url"])
    middle = sticker.getpixel((sticker.width // 2, sticker.height // 2))
    assert middle == (0, 0, 255, 255)


def test_enlarging(emulator: Emulator) -> None:
    """An upscaled picture has the size asked for, unless that is too large."""
    url = emulator.upload(png(Image.new("RGB", (50, 20), "red")))
    told = emulator.run("fal-ai/esrgan", {"image_url": url, "upscale_factor": 3}).json()["image"]
    assert opened(emulator, told["url"]).size == (150, 60)
    url = emulator.upload(png(Image.new("1", (2_000, 1))))
    [item] = emulator.run("fal-ai/esrgan", {"image_url": url, "upscale_factor": 3}).json()["detail"]
    assert (item["type"], item["ctx"]["max_width"]) == ("image_too_large", 1365)


def test_inline_media(emulator: Emulator) -> None:
    """sync_mode gives a data URI, which is an input as good as a URL."""
    given = {"prompt": "a", "sync_mode": True, "image_size": {"width": 64, "height": 64}, "num_images": 2}
    one, two = emulator.run("fal-ai/fast-sdxl", given).json()["images"]
    assert one["url"] != two["url"]
    assert base64.b64decode(one["url"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert emulator.run("fal-ai/imageutils/rembg", {"image_url": one["url"]}).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="text"),
        pytest.param(png(photo())[:5_000], id="cut PNG"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, id="PNG signature only"),
        pytest.param(b"GIF89a" + b"\xff" * 30, id="bad GIF"),
        pytest.param(b"II*\x00" + b"\xff" * 60, id="bad TIFF"),
        pytest.param(b"BM" + b"\x01" * 80, id="bad BMP"),
    ],
)
def test_files_that_are_no_pictures(emulator: Emulator, data: bytes) -> None:
    """A file that can't be read as a picture is image_load_error."""
    answer = emulator.run("fal-ai/imageutils/rembg", {"image_url": emulator.upload(data)})
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "image_load_error")
