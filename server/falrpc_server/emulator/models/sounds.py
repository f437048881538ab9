"""Sounds: real WAV files, written and read. The same input gives the same bytes.

It knows samples and RIFF chunks, and nothing of HTTP, models or queues. What is read may be any bytes:
no file makes it fail otherwise than by NotASound, or makes it work for long.
"""

import array
import io
import itertools
import math
import re
import struct
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NotASound", "Sound", "TimedText", "decode", "describe", "speak", "split_by_time"]

SAMPLE_RATE_HZ = 16_000
CHARACTER_SECONDS = 0.06
FADE_SECONDS = 0.008  # at both ends of a tone: without it each one clicks
AMPLITUDE = 9_000
STEPS_PER_OCTAVE = 24

CHUNKS_MAX = 1_000  # real files have about ten; tiny ones could keep the reader busy
COMMENT_BYTES_MAX = 8_192
BLOCK_BYTES = 12 * 65_536  # whole samples of any size; other threads take turns between blocks
SILENCE = 0.005  # of full scale

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "\uff01", "\uff1f")  # the last three are Chinese and Japanese


class NotASound(ValueError):
    """The bytes are no WAV file that can be read."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What is known of a WAV file.

    Attributes:
        comment: The text of its INFO chunk, empty when it has none.
        loudness: Its loudest sample, from 0 to 1 (full scale).
    """

    seconds: float
    channels: int
    sample_rate_hz: int
    loudness: float
    comment: str


@dataclass(frozen=True, slots=True)
class TimedText:
    """A piece of a text and when it is said."""

    start_seconds: float
    end_seconds: float
    text: str


def speak(text: str, pitch_hz: float, speed: float) -> bytes:
    """Writes a WAV file in which each character is a short tone, and which carries the text as comment.

    Args:
        pitch_hz: The lowest tone of the voice.
        speed: 1 is normal, more is faster.
    """
    samples = round(CHARACTER_SECONDS / speed * SAMPLE_RATE_HZ)
    tones: dict[int | None, bytes] = {None: bytes(2 * samples)}
    spoken = io.BytesIO()
    for character in text or " ":
        step = None if character.isspace() else ord(character) % STEPS_PER_OCTAVE
        if step is not None and step not in tones:
            tones[step] = _tone(pitch_hz * 2 ** (step / STEPS_PER_OCTAVE), samples)
        spoken.write(tones[step])
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(spoken.getvalue())
    comment = text.encode("utf-8", "replace") + b"\0"
    chunks = out.getvalue()[8:] + _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment))
    return _chunk(b"RIFF", chunks)


def decode(data: bytes) -> Sound:
    """Reads a WAV file of uncompressed samples, also one that is cut short. Raises NotASound."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise NotASound("not a WAV file")
    form = samples = None
    comment = ""
    for name, content in _chunks(memoryview(data)[12:]):
        if name == b"fmt " and form is None:
            form = _Form.read(content)
        elif name == b"data" and samples is None:
            samples = content
        elif name == b"LIST" and bytes(content[:4]) == b"INFO":
            comment = comment or _comment(content[4:])
    if form is None or samples is None:
        raise NotASound("no format or no samples")
    frames = len(samples) // form.frame_bytes
    loudness = form.loudness(samples[: frames * form.frame_bytes])
    return Sound(frames / form.sample_rate_hz, form.channels, form.sample_rate_hz, loudness, comment)


def describe(sound: Sound) -> str:
    """What is said in a sound: its comment, else what can be told of it."""
    if sound.comment.strip():
        return sound.comment
    return f"{sound.seconds:.1f} seconds of sound" if sound.loudness > SILENCE else "silence"


def split_by_time(text: str, seconds: float, by_word: bool) -> list[TimedText]:
    """Splits a text in words or sentences; each character takes the same part of the time."""
    words = list(re.finditer(r"\S+", text))
    pieces: list[TimedText] = []
    start = None
    for word in words:
        start = word.start() if start is None else start
        if by_word or word is words[-1] or word[0].endswith(_SENTENCE_ENDS):
            begins, ends = (round(seconds * place / len(text), 2) for place in (start, word.end()))
            pieces.append(TimedText(begins, ends, text[start : word.end()]))
            start = None
    return pieces


@dataclass(frozen=True, slots=True)
class _Form:
    """The `fmt ` chunk."""

    channels: int
    sample_rate_hz: int
    sample_bytes: int
    is_float: bool

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.sample_bytes

    @staticmethod
    def read(content: memoryview) -> "_Form":
        if len(content) < 16:
            raise NotASound("a short format chunk")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
        if tag == _EXTENSIBLE and len(content) >= 26:
            (tag,) = struct.unpack_from("<H", content, 24)  # the first field of the subformat's GUID
        is_known = (tag == _PCM and bits in (8, 16, 24, 32)) or (tag == _FLOAT and bits == 32)
        if not (is_known and channels and rate):
            raise NotASound(f"format {tag} with {bits} bits is not supported")
        return _Form(channels, rate, bits // 8, tag == _FLOAT)

    def loudness(self, samples: memoryview) -> float:
        """The largest of the samples, as a share of full scale."""
        blocks = (
            bytes(samples[start : start + BLOCK_BYTES]) for start in range(0, len(samples), BLOCK_BYTES)
        )
        return max(map(self._peak, blocks), default=0.0)

    def _peak(self, samples: bytes) -> float:
        if self.sample_bytes == 1:  # the only unsigned ones
            return max(max(samples) - 128, 128 - min(samples)) / 128
        if self.is_float:
            floats = _numbers("f", samples)
            peak = max(max(floats), -min(floats))
            return min(peak, 1.0) if math.isfinite(peak) else 1.0
        # The upper 16 bits are enough to tell.
        upper = bytearray(len(samples) // self.sample_bytes * 2)
        upper[0::2] = samples[self.sample_bytes - 2 :: self.sample_bytes]
        upper[1::2] = samples[self.sample_bytes - 1 :: self.sample_bytes]
        integers = _numbers("h", bytes(upper))
        return max(max(integers), -min(integers)) / 32_768


def _numbers(kind: str, data: bytes) -> "array.array[float]":
    numbers: array.array[float] = array.array(kind, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _tone(frequency_hz: float, samples: int) -> bytes:
    fade = max(1, round(FADE_SECONDS * SAMPLE_RATE_HZ))
    turn = 2 * math.pi * frequency_hz / SAMPLE_RATE_HZ
    values = [
        round(AMPLITUDE * min(1.0, place / fade, (samples - 1 - place) / fade) * math.sin(turn * place))
        for place in range(samples)
    ]
    return struct.pack(f"<{samples}h", *values)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """RIFF chunks; the last one may be shorter than it says, as programs that write to pipes leave it."""
    place = 0
    for number in itertools.count():
        if len(data) - place < 8:
            return
        if number == CHUNKS_MAX:
            raise NotASound("too many chunks")
        name, size = bytes(data[place : place + 4]), struct.unpack_from("<I", data, place + 4)[0]
        yield name, data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _comment(info: memoryview) -> str:
    """The ICMT chunk of an INFO list: text that ends with a zero byte."""
    for name, content in _chunks(info):
        if name == b"ICMT":
            return bytes(content[:COMMENT_BYTES_MAX]).rstrip(b"\0").decode("utf-8", "replace")
    return ""
