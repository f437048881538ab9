"""What the models of pictures, videos and sounds refuse (§12.2)."""

from typing import Any

import pytest
from tests.emulator.running import Emulator

RESTYLE = "fal-ai/flux/dev/image-to-image"
VIDEO = "fal-ai/ltx-video"
SPEECH = "fal-ai/kokoro/american-english"
WHISPER = "fal-ai/whisper"
NOWHERE = "http://127.0.0.1:9/a"


def refusal(emulator: Emulator, endpoint: str, given: Any) -> dict[str, Any]:
    """The only problem of an input, for which nothing is billed."""
    answer = emulator.run(endpoint, given)
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0"), answer.text
    [item] = answer.json()["detail"]
    assert item["url"].endswith(f"#{item['type']}")
    return dict(item)


GOOD: dict[str, dict[str, Any]] = {
    RESTYLE: {"image_url": NOWHERE, "prompt": "a"},
    VIDEO: {"prompt": "a"},
    SPEECH: {"prompt": "a"},
    WHISPER: {"audio_url": NOWHERE},
}
LEFT_OUT = object()
TASKS = {"expected": "'transcribe' or 'translate'"}
LEVELS = {"expected": "'none' or 'segment' or 'word'"}
FORMATS = {"supported_formats": ["wav"]}


@pytest.mark.parametrize(
    ("endpoint", "field", "value", "kind", "context"),
    [
        (RESTYLE, "image_url", LEFT_OUT, "missing", None),
        (RESTYLE, "prompt", LEFT_OUT, "missing", None),
        (RESTYLE, "image_url", 1, "string_type", None),
        (RESTYLE, "strength", 1.1, "less_than_equal", {"le": 1}),
        (RESTYLE, "strength", -1, "greater_than_equal", {"ge": 0}),
        (RESTYLE, "strength", "strong", "float_type", None),
        (RESTYLE, "image_url", NOWHERE, "file_download_error", None),
        (RESTYLE, "image_url", "data:,hello", "image_load_error", None),
        (VIDEO, "prompt", LEFT_OUT, "missing", None),
        (VIDEO, "prompt", ["a"], "string_type", None),
        (VIDEO, "num_frames", 7, "greater_than_equal", {"ge": 8}),
        (VIDEO, "num_frames", 122, "less_than_equal", {"le": 121}),
        (VIDEO, "num_frames", 8.5, "int_from_float", None),
        (VIDEO, "fps", 0, "greater_than_equal", {"ge": 1}),
        (VIDEO, "fps", True, "float_type", None),
        (SPEECH, "prompt", LEFT_OUT, "missing", None),
        (SPEECH, "prompt", 1, "string_type", None),
        (SPEECH, "prompt", "a" * 1_001, "sequence_too_long", {"max_length": 1_000}),
        (SPEECH, "speed", 0, "greater_than_equal", {"ge": 0.1}),
        (WHISPER, "audio_url", LEFT_OUT, "missing", None),
        (WHISPER, "audio_url", {}, "string_type", None),
        (WHISPER, "task", "sing", "literal_error", TASKS),
        (WHISPER, "chunk_level", "letter", "literal_error", LEVELS),
        (WHISPER, "audio_url", NOWHERE, "file_download_error", None),
        (WHISPER, "audio_url", "data:audio/wav;base64,%", "file_download_error", None),
        (WHISPER, "audio_url", "data:audio/mpeg,ID3", "unsupported_audio_format", FORMATS),
    ],
)
def test_refused_inputs(
    emulator: Emulator, endpoint: str, field: str, value: Any, kind: str, context: Any
) -> None:
    """A model refuses what it can't work with, and tells the field, the kind of problem and the limits."""
    given = {name: each for name, each in {**GOOD[endpoint], field: value}.items() if each is not LEFT_OUT}
    item = refusal(emulator, endpoint, given)
    assert (item["loc"], item["type"], item.get("ctx")) == (["body", field], kind, context)
    assert item["input"] == given.get(field, given)


def test_an_unknown_voice(emulator: Emulator) -> None:
    """An unknown voice is a literal_error that names all voices."""
    item = refusal(emulator, SPEECH, {"prompt": "a", "voice": "zz_nobody"})
    assert (item["type"], item["loc"], item["input"]) == ("literal_error", ["body", "voice"], "zz_nobody")
    assert item["ctx"]["expected"].startswith("'af_heart' or ")
    assert item["ctx"]["expected"].count(" or ") == 19


@pytest.mark.parametrize("end", [0, 4, 11, 12, 20, 36, 43])
def test_a_sound_file_that_is_cut_short(emulator: Emulator, end: int) -> None:
    """A file that ends before its samples is no sound; a queue request ends with the same refusal."""
    speech = emulator.http.get(emulator.run(SPEECH, GOOD[SPEECH]).json()["audio"]["url"]).content
    url = emulator.upload(speech[:end], "audio/wav", "a.wav")
    item = refusal(emulator, WHISPER, {"audio_url": url})
    assert item["type"] == "unsupported_audio_format"
    result = emulator.result(emulator.submit(WHISPER, {"audio_url": url}))
    assert (result.status_code, result.json()["detail"][0]["type"]) == (422, "unsupported_audio_format")
