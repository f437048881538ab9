"""Real media: pictures made from pictures, moving pictures, speech and its transcription (§10.10)."""

import base64
import io
import itertools
import struct
import wave
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat
from tests.emulator.running import Emulator

RESTYLE = "fal-ai/flux/dev/image-to-image"
VIDEO = "fal-ai/ltx-video"
SPEECH = "fal-ai/kokoro/american-english"
WHISPER = "fal-ai/whisper"
SEED = "15860307465884635512"


def download(emulator: Emulator, told: dict[str, Any]) -> bytes:
    """The file behind a File object, which is as it is told to be."""
    answer = emulator.http.get(told["url"]).raise_for_status()
    assert answer.headers["content-type"] == told["content_type"]
    assert len(answer.content) == told["file_size"]
    assert told["url"].endswith(told["file_name"])
    return answer.content


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def wav(samples: bytes, rate: int = 8_000, sample_bytes: int = 2) -> bytes:
    """A WAV file as the standard library writes it: without a comment."""
    data = io.BytesIO()
    with wave.open(data, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(sample_bytes)
        writer.setframerate(rate)
        writer.writeframes(samples)
    return data.getvalue()


def painting() -> Image.Image:
    image = Image.new("RGB", (120, 80), (90, 140, 220))
    ImageDraw.Draw(image).ellipse((30, 10, 90, 70), fill=(220, 60, 40))
    return image


def restyled(emulator: Emulator, image: Image.Image, **given: Any) -> Image.Image:
    asked = {"image_url": emulator.upload(png(image)), "prompt": "oil on canvas", **given}
    [told] = emulator.run(RESTYLE, asked).raise_for_status().json()["images"]
    result = Image.open(io.BytesIO(download(emulator, told)))
    assert result.size == image.size == (told["width"], told["height"])
    return result


def distance(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures' colour levels."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(means) / 3


@pytest.mark.parametrize("endpoint", [RESTYLE, "fal-ai/fast-sdxl/image-to-image"])
def test_a_restyled_picture(emulator: Emulator, endpoint: str) -> None:
    """The output tells the picture, the seed as it was written, and the prompt."""
    url = emulator.upload(png(painting()))
    answer = emulator.run(endpoint, f'{{"image_url":"{url}","prompt":"a","seed":{SEED},"num_images":2}}')
    output = answer.json()
    assert set(output) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert f'"seed":{SEED},' in answer.text
    assert (output["prompt"], output["has_nsfw_concepts"]) == ("a", [False, False])
    assert download(emulator, output["images"][0]) != download(emulator, output["images"][1])


def test_strength(emulator: Emulator) -> None:
    """Strength 0 changes nothing, and the more of it the more is changed."""
    image = painting()
    results = [restyled(emulator, image, strength=strength) for strength in (0, 0.3, 0.6, 1)]
    distances = [distance(image, result) for result in results]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 5
    assert distances[3] > 40
    assert distance(restyled(emulator, image), restyled(emulator, image, strength=0.95)) == 0


def test_the_style_comes_from_prompt_and_seed(emulator: Emulator) -> None:
    """The same prompt and seed give the same picture; another prompt or seed gives another."""
    image = painting()
    one = restyled(emulator, image, seed=1)
    assert distance(one, restyled(emulator, image, seed=1)) == 0
    assert distance(one, restyled(emulator, image, seed=2)) > 2
    assert distance(one, restyled(emulator, image, seed=1, prompt="pencil")) > 2


def test_what_is_transparent_stays_so(emulator: Emulator) -> None:
    """A cut-out picture is repainted where it is something."""
    image = painting().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    result = restyled(emulator, image)
    assert ImageChops.difference(result.getchannel("A"), image.getchannel("A")).getbbox() is None
    assert distance(image, result) > 20


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_pictures_of_any_mode(emulator: Emulator, mode: str) -> None:
    """A picture without colours, with a palette or for print is repainted, too, even one of one pixel."""
    data = io.BytesIO()
    painting().convert(mode).save(data, "TIFF")
    for given in (data.getvalue(), png(Image.new("L", (1, 1), 128))):
        answer = emulator.run(RESTYLE, {"image_url": emulator.upload(given), "prompt": "a", "seed": 3})
        result = Image.open(io.BytesIO(download(emulator, answer.json()["images"][0])))
        assert result.mode == "RGB"
        assert distance(result, Image.open(io.BytesIO(given))) > 10


def animated(emulator: Emulator, **given: Any) -> tuple[dict[str, Any], bytes]:
    told = emulator.run(VIDEO, {"prompt": "a fox", **given}).raise_for_status().json()["video"]
    return told, download(emulator, told)


@pytest.mark.parametrize(
    ("given", "count", "milliseconds"),
    [
        pytest.param({"num_frames": 8, "fps": 8}, 8, 1_000, id="few"),
        pytest.param({"num_frames": 20.0, "fps": 12.5}, 20, 1_600, id="numbers with fractions"),
        pytest.param({"num_frames": 121, "fps": 60}, 121, 2_017, id="many"),
        pytest.param({}, 49, 2_042, id="defaults"),
    ],
)
def test_a_video(emulator: Emulator, given: Any, count: int, milliseconds: int) -> None:
    """A video is an animated picture with the frames and time that were asked for, and no two frames
    that follow each other are alike."""
    told, data = animated(emulator, **given)
    assert (told["num_frames"], told["duration"]) == (count, pytest.approx(milliseconds / 1000, abs=0.001))
    assert told["fps"] == given.get("fps", 24)
    with Image.open(io.BytesIO(data)) as video:
        assert (video.format, video.size) == ("WEBP", (told["width"], told["height"]))
        assert (video.is_animated, video.n_frames, video.info["loop"]) == (True, count, 0)
        frames, lasted = [], 0
        for number in range(count):
            video.seek(number)
            frames.append(video.convert("RGB"))
            lasted += video.info["duration"]
    assert lasted == milliseconds
    changes = [distance(one, other) for one, other in itertools.pairwise(frames)]
    assert min(changes) > 0.1
    assert distance(frames[0], frames[-1]) < 1.5 * max(changes)  # the end meets the start


def test_prompt_and_seed_make_the_video(emulator: Emulator) -> None:
    """The same prompt and seed give the same bytes; another prompt or seed gives others."""

    def film(prompt: str, seed: int) -> bytes:
        return animated(emulator, prompt=prompt, seed=seed, num_frames=8)[1]

    assert film("a cat", 7) == film("a cat", 7)
    assert len({film("a cat", 7), film("a cat", 8), film("a robot", 7)}) == 3
    given = f'{{"prompt":"a","seed":{SEED},"num_frames":8}}'
    assert f'"seed":{SEED}}}' in emulator.run(VIDEO, given).text


def test_progress_of_a_video(emulator: Emulator) -> None:
    """The log tells how many frames are done."""
    submitted = emulator.submit(VIDEO, {"prompt": "a", "num_frames": 40})
    status = emulator.until_completed(submitted, logs=1)
    messages = [line["message"] for line in status["logs"]]
    assert [text for text in messages if text.startswith("frame")] == [
        "frame 16/40",
        "frame 32/40",
        "frame 40/40",
    ]
    assert emulator.result(submitted).json()["video"]["num_frames"] == 40


def spoken(emulator: Emulator, **given: Any) -> dict[str, Any]:
    output = emulator.run(SPEECH, given).raise_for_status().json()
    assert set(output) == {"audio"}
    return dict(output["audio"])


def transcribed(emulator: Emulator, url: str, **given: Any) -> dict[str, Any]:
    output = dict(emulator.run(WHISPER, {"audio_url": url, **given}).raise_for_status().json())
    assert set(output) == {"text", "chunks", "inferred_languages"}
    return output


def test_speech(emulator: Emulator) -> None:
    """Speech is a WAV file that lasts as long as its text at that speed; each voice has its own sound."""
    told = spoken(emulator, prompt="Good morning", speed=2)
    assert (told["content_type"], told["file_name"]) == ("audio/wav", "speech.wav")
    with wave.open(io.BytesIO(download(emulator, told))) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)
        assert reader.getnframes() / reader.getframerate() == pytest.approx(12 * 0.03)
        assert any(reader.readframes(reader.getnframes()))
    voices = [{}, {"voice": "af_heart"}, {"voice": "af_sky"}, {"voice": "am_adam"}]
    heard = [download(emulator, spoken(emulator, prompt="Good morning", **voice)) for voice in voices]
    assert heard[0] == heard[1]
    assert len(set(heard)) == 3


@pytest.mark.parametrize(
    "prompt",
    ["Grüße, ça va?", "你好,世界。", "🙂 \u202b\u05e9\u05dc\u05d5\u05dd \x07", 'a "b"\n\tc', "  x  "],
)
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_speech_and_its_transcription(emulator: Emulator, prompt: str, task: str) -> None:
    """What is spoken is transcribed to the same text, whatever its letters."""
    told = spoken(emulator, prompt=prompt)
    assert transcribed(emulator, told["url"], task=task)["text"] == prompt


def test_chunks(emulator: Emulator) -> None:
    """Chunks are sentences, or words, with their times, or none."""
    url = spoken(emulator, prompt="Hi all. Ok?")["url"]
    sentences = [
        {"timestamp": [0.0, 0.42], "text": "Hi all."},
        {"timestamp": [0.48, 0.66], "text": "Ok?"},
    ]
    assert transcribed(emulator, url)["chunks"] == sentences
    assert transcribed(emulator, url, chunk_level="segment")["chunks"] == sentences
    words = transcribed(emulator, url, chunk_level="word")["chunks"]
    assert [word["text"] for word in words] == ["Hi", "all.", "Ok?"]
    assert words[1]["timestamp"] == [0.18, 0.42]
    assert transcribed(emulator, url, chunk_level="none")["chunks"] == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (wav(struct.pack("<2h", 9_000, -9_000) * 8_000), "2.0 seconds of sound"),
        (wav(bytes(4_000)), "silence"),
        (wav(b""), "silence"),
    ],
)
def test_sounds_without_words(emulator: Emulator, data: bytes, text: str) -> None:
    """A sound that carries no text is told by its length and loudness."""
    output = transcribed(emulator, emulator.upload(data, "audio/wav", "a.wav"))
    assert (output["text"], output["inferred_languages"]) == (text, ["en"])
    assert output["chunks"][0]["text"] == text


def test_a_sound_in_the_input(emulator: Emulator) -> None:
    """A data URI is an input as good as a URL, and the language is as told."""
    speech = download(emulator, spoken(emulator, prompt="Guten Tag"))
    url = f"data:audio/wav;base64,{base64.b64encode(speech).decode()}"
    output = transcribed(emulator, url, language="de")
    assert (output["text"], output["inferred_languages"]) == ("Guten Tag", ["de"])


def test_a_sound_that_is_too_long(emulator: Emulator) -> None:
    """More than ten minutes of sound are refused, ten minutes are not."""
    longest, longer = (wav(bytes(100 * seconds), rate=100, sample_bytes=1) for seconds in (600, 601))
    url = emulator.upload(longer, "audio/wav", "a.wav")
    answer = emulator.run(WHISPER, {"audio_url": url})
    [item] = answer.json()["detail"]
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0")
    assert (item["type"], item["loc"]) == ("audio_duration_too_long", ["body", "audio_url"])
    assert (item["ctx"], item["input"]) == ({"max_duration": 600, "provided_duration": 601}, url)
    output = transcribed(emulator, emulator.upload(longest, "audio/wav", "a.wav"))
    assert output["text"] == "600.0 seconds of sound"  # 8-bit zeros are as far from silence as can be
