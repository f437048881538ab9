"""The models of other media: pictures made from pictures, moving pictures, speech and what is said in it."""

from functools import partial
from typing import Any

from falrpc_server.emulator.models import animation, images, sounds
from falrpc_server.emulator.models.inputs import Field, model_error
from falrpc_server.emulator.models.pictures import read_image, store_image
from falrpc_server.emulator.models.work import Work

__all__ = [
    "IMAGE_TO_IMAGE",
    "SPEECH",
    "TEXT_TO_VIDEO",
    "TRANSCRIPTION",
    "animate",
    "restyle",
    "speak",
    "transcribe",
]

STRENGTH_DEFAULT = 0.95
STEPS_MAX = 8  # that are told of

VIDEO_SIZE = (320, 320)
FRAMES_DEFAULT = 49
FPS_DEFAULT = 24
FRAMES_PER_LOG = 16

PROMPT_CHARACTERS_MAX = 1_000  # ten minutes at the lowest speed
AUDIO_SECONDS_MAX = 600.0
AUDIO_FORMATS = ["wav"]

VOICE_DEFAULT = "af_heart"
_WOMEN = ("heart", "alloy", "aoede", "bella", "jessica", "kore", "nicole", "nova", "river", "sarah", "sky")
_MEN = ("adam", "echo", "eric", "fenrir", "liam", "michael", "onyx", "puck", "santa")
# Each voice has a pitch of its own, a quarter of a semitone from the next one's.
VOICE_PITCHES_HZ = {
    **{f"af_{name}": 260.0 * 2 ** (number / 48) for number, name in enumerate(_WOMEN)},
    **{f"am_{name}": 130.0 * 2 ** (number / 48) for number, name in enumerate(_MEN)},
}

IMAGE_TO_IMAGE = (
    Field("image_url", "string", required=True),
    Field("prompt", "string", required=True),
    Field("strength", "number", minimum=0, maximum=1),
    Field("seed", "integer"),
    Field("num_images", "integer", minimum=1, maximum=4),
    Field("num_inference_steps", "integer", minimum=1, maximum=50),
    Field("sync_mode", "boolean"),
)

TEXT_TO_VIDEO = (
    Field("prompt", "string", required=True),
    Field("seed", "integer"),
    Field("num_frames", "integer", minimum=8, maximum=121),
    Field("fps", "number", minimum=1, maximum=60),
)

SPEECH = (
    Field("prompt", "string", required=True),
    Field("voice", "string", choices=tuple(VOICE_PITCHES_HZ)),
    Field("speed", "number", minimum=0.1, maximum=5),
)

TRANSCRIPTION = (
    Field("audio_url", "string", required=True),
    Field("task", "string", choices=("transcribe", "translate")),
    Field("chunk_level", "string", choices=("none", "segment", "word")),
    Field("language", "string"),
)


async def restyle(work: Work) -> dict[str, Any]:
    """Image to image: the output as a value. Raises AppError."""
    image = await read_image(work, "image_url")
    prompt, seed = work.input.get("prompt"), int(work.input.get("seed", 42))
    strength = float(work.input.get("strength", STRENGTH_DEFAULT))
    steps = min(int(work.input.get("num_inference_steps", 4)), STEPS_MAX)
    for step in range(1, steps + 1):
        await work.sleep(work.seconds / steps)
        work.log(f"step {step}/{steps}", 0.0)
    pictures = []
    for number in range(int(work.input.get("num_images", 1))):
        restyled = await work.compute(images.restyle, image, prompt, seed + number, strength)
        pictures.append(await store_image(work, restyled, "image"))
    return {
        "images": pictures,
        "timings": {"inference": work.seconds},
        "seed": work.input.raw("seed", "42"),
        "has_nsfw_concepts": [False] * len(pictures),
        "prompt": prompt,
    }


async def animate(work: Work) -> dict[str, Any]:
    """Text to video: the output as a value, with a Video object (§10.10)."""
    prompt, seed = work.input.get("prompt"), int(work.input.get("seed", 42))
    count, fps = int(work.input.get("num_frames", FRAMES_DEFAULT)), work.input.get("fps", FPS_DEFAULT)
    scene = await work.compute(animation.Scene, prompt, seed, VIDEO_SIZE, count, fps)
    frames = []
    for first in range(0, count, FRAMES_PER_LOG):
        end = min(first + FRAMES_PER_LOG, count)
        frames += await work.compute(scene.frames, first, end)
        await work.sleep(work.seconds * (end - first) / count)
        work.log(f"frame {end}/{count}", 0.0)
    data = await work.compute(animation.encode, frames, fps)
    width, height = VIDEO_SIZE
    video = {
        **_store(work, "video.webp", animation.CONTENT_TYPE, data),
        "fps": fps,
        "duration": round(count / fps, 3),
        "num_frames": count,
        "width": width,
        "height": height,
    }
    return {"video": video, "seed": work.input.raw("seed", "42")}


async def speak(work: Work) -> dict[str, Any]:
    """Text to speech: the output as a value. Raises AppError."""
    prompt = work.input.get("prompt")
    if len(prompt) > PROMPT_CHARACTERS_MAX:
        text = f"Text should have at most {PROMPT_CHARACTERS_MAX} characters"
        limit = {"max_length": PROMPT_CHARACTERS_MAX}
        raise model_error("sequence_too_long", "prompt", text, prompt, limit)
    pitch_hz = VOICE_PITCHES_HZ[work.input.get("voice", VOICE_DEFAULT)]
    speed = float(work.input.get("speed", 1.0))
    await work.sleep(work.seconds)
    data = await work.compute(partial(sounds.speak, prompt, pitch_hz=pitch_hz, speed=speed))
    work.log(f"spoke {len(prompt)} characters", 0.0)
    return {"audio": _store(work, "speech.wav", "audio/wav", data)}


async def transcribe(work: Work) -> dict[str, Any]:
    """Speech to text: the output as a value. Raises AppError.

    The text is what `speak` wrote into the file. A translation is the same text: what is here is taken for
    English.
    """
    sound = await _read_sound(work, "audio_url")
    await work.sleep(work.seconds)
    text, level = sounds.describe(sound), work.input.get("chunk_level", "segment")
    pieces = [] if level == "none" else sounds.split_by_time(text, sound.seconds, level == "word")
    work.log(f"transcribed {sound.seconds:.1f} seconds", 0.0)
    return {
        "text": text,
        "chunks": [
            {"timestamp": [piece.start_seconds, piece.end_seconds], "text": piece.text} for piece in pieces
        ],
        "inferred_languages": [work.input.get("language", "en")],
    }


async def _read_sound(work: Work, name: str) -> sounds.Sound:
    file, url = await work.fetch(name), work.input.get(name)
    try:
        sound = await work.compute(sounds.decode, bytes(file.data))
    except sounds.NotASound:
        formats = {"supported_formats": AUDIO_FORMATS}
        raise model_error(
            "unsupported_audio_format", name, "Unsupported audio format.", url, formats
        ) from None
    if sound.seconds > AUDIO_SECONDS_MAX:
        durations = {"max_duration": AUDIO_SECONDS_MAX, "provided_duration": round(sound.seconds, 3)}
        raise model_error("audio_duration_too_long", name, "Audio is too long.", url, durations)
    return sound


def _store(work: Work, name: str, content_type: str, data: bytes) -> dict[str, Any]:
    """Stores a file and returns its File object (§10.10)."""
    url = work.keep(name, content_type, data)
    return {"url": url, "content_type": content_type, "file_name": name, "file_size": len(data)}
