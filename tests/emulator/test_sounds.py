"""WAV files, written and read; whatever the bytes are."""

import io
import itertools
import struct
import time
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falrpc_server.emulator.models import sounds
from falrpc_server.emulator.models.sounds import NotASound, Sound, TimedText

SECONDS_MAX = 2.0  # for any file here; the worst of them take some milliseconds


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


def form(tag: int = 1, channels: int = 1, rate: int = 1_000, bits: int = 16, more: bytes = b"") -> bytes:
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + more)


def info(*texts: bytes) -> bytes:
    return chunk(b"LIST", b"INFO" + b"".join(chunk(b"ICMT", text) for text in texts))


SPOKEN = sounds.speak("Hello you", pitch_hz=200.0, speed=1.0)
HALF_LOUD = struct.pack("<2h", 0, -16_384)
INTEGERS = struct.pack("<2i", 1, -(2**30)) * 250
FLOATS = struct.pack("<2f", 0.1, -0.5) * 250
WILD_FLOATS = struct.pack("<2f", float("nan"), 9e9) * 250
PCM_GUID = struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)


def test_speech_is_a_wav_file() -> None:
    """The standard library reads what is spoken: one channel, 16 bits, 60 ms for each character."""
    with wave.open(io.BytesIO(SPOKEN)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (1, 2, 16_000)
        samples = struct.unpack(f"<{reader.getnframes()}h", reader.readframes(reader.getnframes()))
    assert len(samples) == len("Hello you") * 960
    assert int.from_bytes(SPOKEN[4:8], "little") == len(SPOKEN) - 8
    a_letter, the_space = samples[:960], samples[5 * 960 : 6 * 960]
    assert 8_000 < max(a_letter) <= 9_000
    assert set(the_space) == {0}
    assert samples[2 * 960 : 3 * 960] == samples[3 * 960 : 4 * 960]  # both are "l"
    assert samples[:960] != samples[960:1920]


def turns(data: bytes) -> int:
    """How often a sound's samples change from negative to positive."""
    with wave.open(io.BytesIO(data)) as reader:
        samples = struct.unpack(f"<{reader.getnframes()}h", reader.readframes(reader.getnframes()))
    return sum(one < 0 <= other for one, other in itertools.pairwise(samples))


def test_pitch_and_speed() -> None:
    """A voice of twice the pitch swings twice as often; twice the speed takes half the time."""
    low, high = sounds.speak("aaaa", 200.0, 0.5), sounds.speak("aaaa", 400.0, 0.5)
    assert turns(low) > 50
    assert turns(high) == pytest.approx(2 * turns(low), abs=8)
    quick = sounds.decode(sounds.speak("aaaa", 200.0, 1.0))
    assert sounds.decode(low).seconds == pytest.approx(2 * quick.seconds)


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_is_spoken_is_understood(text: str) -> None:
    """Any text comes back from its speech, but for zero bytes at its end and halves of surrogate pairs."""
    sound = sounds.decode(sounds.speak(text, 200.0, 5.0))
    assert sound.comment == text.rstrip("\0")
    assert sound.seconds == pytest.approx(0.012 * max(1, len(text)))


def test_half_a_surrogate_pair() -> None:
    """What UTF-8 can't hold is spoken as a question mark."""
    assert sounds.decode(sounds.speak("a\ud800b", 200.0, 5.0)).comment == "a?b"


@pytest.mark.parametrize(
    ("data", "loudness", "seconds"),
    [
        pytest.param(riff(form(), chunk(b"data", HALF_LOUD * 500)), 0.5, 1.0, id="16 bits"),
        pytest.param(riff(form(bits=8), chunk(b"data", b"\x80\x40" * 250)), 0.5, 0.5, id="8 bits"),
        pytest.param(
            riff(form(bits=24), chunk(b"data", b"\0\0\0\xff\xff\x3f" * 250)), 0.5, 0.5, id="24 bits"
        ),
        pytest.param(riff(form(bits=32), chunk(b"data", INTEGERS)), 0.5, 0.5, id="32 bits"),
        pytest.param(riff(form(3, bits=32), chunk(b"data", FLOATS)), 0.5, 0.5, id="floats"),
        pytest.param(riff(form(3, bits=32), chunk(b"data", WILD_FLOATS)), 1.0, 0.5, id="floats out of range"),
        pytest.param(
            riff(form(0xFFFE, more=PCM_GUID), chunk(b"data", HALF_LOUD * 500)), 0.5, 1.0, id="extensible"
        ),
        pytest.param(riff(form(channels=2), chunk(b"data", HALF_LOUD * 500)), 0.5, 0.5, id="2 channels"),
        pytest.param(riff(form(), chunk(b"data", bytes(2_000))), 0.0, 1.0, id="zeros"),
        pytest.param(riff(form(), chunk(b"data", b"")), 0.0, 0.0, id="no samples"),
        pytest.param(
            riff(form(), chunk(b"JUNK", b"odd"), chunk(b"data", HALF_LOUD * 500)), 0.5, 1.0, id="other chunks"
        ),
        pytest.param(
            riff(form(), b"data\xff\xff\xff\xff" + HALF_LOUD * 500), 0.5, 1.0, id="written to a pipe"
        ),
        pytest.param(riff(form(), chunk(b"data", HALF_LOUD * 500))[:-501], 0.5, 0.749, id="cut in a sample"),
        pytest.param(
            riff(form(rate=1_000_000), chunk(b"data", bytes(2_000_000) + HALF_LOUD)), 0.5, 1.0, id="loud end"
        ),
    ],
)
def test_forms_of_samples(data: bytes, loudness: float, seconds: float) -> None:
    """Loudness is the largest sample of whatever size; length is what samples there are."""
    sound = sounds.decode(data)
    assert (sound.loudness, sound.seconds) == (
        pytest.approx(loudness, abs=0.001),
        pytest.approx(seconds, abs=0.001),
    )


@pytest.mark.parametrize(
    ("chunks", "comment"),
    [
        pytest.param((info(b"a\0"),), "a", id="zero-terminated"),
        pytest.param((info("é😀".encode()),), "é😀", id="without a zero"),
        pytest.param((info(b"a\xff"),), "a�", id="not UTF-8"),
        pytest.param((info(b"first", b"second"),), "first", id="two comments"),
        pytest.param((info(b""), info(b"b")), "b", id="an empty one first"),
        pytest.param((chunk(b"LIST", b"adtl" + chunk(b"ICMT", b"a")),), "", id="another list"),
        pytest.param((chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a")),), "", id="another text"),
        pytest.param((chunk(b"LIST", b"INFOICMT\xff\xff\xff\xffab"),), "ab", id="longer than its list"),
        pytest.param((chunk(b"LIST", b"IN"),), "", id="a short list"),
        pytest.param((info(b"x" * 10_000),), "x" * 8_192, id="very long"),
    ],
)
def test_comments(chunks: tuple[bytes, ...], comment: str) -> None:
    """The comment is the first text that an INFO list has, before or behind the samples."""
    samples = chunk(b"data", b"")
    assert sounds.decode(riff(form(), samples, *chunks)).comment == comment
    assert sounds.decode(riff(*chunks, form(), samples)).comment == comment


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="text"),
        pytest.param(b"ID3\x04" + bytes(100), id="MP3"),
        pytest.param(b"RIFX" + riff(form(), chunk(b"data", b""))[4:], id="the other byte order"),
        pytest.param(chunk(b"RIFF", b"WEBP" + bytes(20)), id="another RIFF file"),
        pytest.param(riff(), id="no chunks"),
        pytest.param(riff(form()), id="no samples"),
        pytest.param(riff(chunk(b"data", bytes(100))), id="no format"),
        pytest.param(riff(chunk(b"fmt ", bytes(4)), chunk(b"data", b"")), id="a short format"),
        pytest.param(riff(form(channels=0), chunk(b"data", bytes(100))), id="no channels"),
        pytest.param(riff(form(rate=0), chunk(b"data", bytes(100))), id="no rate"),
        pytest.param(riff(form(bits=12), chunk(b"data", bytes(100))), id="12 bits"),
        pytest.param(riff(form(tag=0x55), chunk(b"data", bytes(100))), id="MP3 in WAV"),
        pytest.param(riff(form(tag=0xFFFE), chunk(b"data", bytes(100))), id="extensible cut short"),
        pytest.param(riff(form(), *[chunk(b"JUNK", b"")] * 1_000, chunk(b"data", b"")), id="too many chunks"),
        pytest.param(riff(form(), *[info()] * 1_000), id="too many lists"),
    ],
)
def test_files_that_are_no_sounds(data: bytes) -> None:
    """What is no WAV file of uncompressed samples is NotASound."""
    with pytest.raises(NotASound):
        sounds.decode(data)


def test_millions_of_chunks() -> None:
    """A file of eight million empty chunks is refused at once."""
    started = time.monotonic()
    with pytest.raises(NotASound, match="too many chunks"):
        sounds.decode(riff(form(), chunk(b"JUNK", b"") * 8_000_000))
    assert time.monotonic() - started < SECONDS_MAX


@given(st.integers(0, len(SPOKEN)))
@settings(max_examples=100, deadline=None)
def test_truncated_files(end: int) -> None:
    """A file cut anywhere behind the beginning of its samples is a shorter sound."""
    if end < 44:
        with pytest.raises(NotASound):
            sounds.decode(SPOKEN[:end])
    else:
        sound = sounds.decode(SPOKEN[:end])
        assert sound.seconds == (min(end - 44, 2 * 8_640) // 2) / 16_000
        assert "Hello you".startswith(sound.comment)


HEAD_AND_TAIL = [*range(48), *range(len(SPOKEN) - 40, len(SPOKEN))]


@given(
    st.lists(st.tuples(st.sampled_from(HEAD_AND_TAIL), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, len(SPOKEN)),
)
@settings(max_examples=300, deadline=None)
def test_mutated_files(changes: list[tuple[int, int]], end: int) -> None:
    """A file with changed bytes in its chunks' heads is a sound or NotASound, and soon."""
    data = bytearray(SPOKEN)
    for place, value in changes:
        data[place] = value
    assert_read_or_refused(bytes(data))
    assert_read_or_refused(bytes(data[:end]))


chunks_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from([b"fmt ", b"data", b"LIST", b"ICMT", b"JUNK"]),
        st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        st.one_of(st.binary(max_size=60), st.builds(lambda rest: b"INFO" + rest, st.binary(max_size=60))),
    ),
    max_size=6,
)


@given(chunks_of_any_kind)
@settings(max_examples=300, deadline=None)
def test_chunks_of_any_kind(chunks: list[tuple[bytes, int | None, bytes]]) -> None:
    """Chunks in any order, with any content and any claim of their size, are a sound or NotASound."""
    texts = [
        name + struct.pack("<I", len(content) if size is None else size) + content
        for name, size, content in chunks
    ]
    assert_read_or_refused(riff(*texts))
    assert_read_or_refused(riff(form(), *texts))


def assert_read_or_refused(data: bytes) -> None:
    started = time.monotonic()
    try:
        sound = sounds.decode(data)
    except NotASound:
        pass
    else:
        assert 0 <= sound.loudness <= 1
        assert sound.seconds >= 0
        assert len(sound.comment) <= 8_192
        assert sounds.describe(sound)
        for by_word in (True, False):
            sounds.split_by_time(sounds.describe(sound), sound.seconds, by_word)
    assert time.monotonic() - started < SECONDS_MAX


@pytest.mark.parametrize(
    ("sound", "text"),
    [
        (Sound(2.0, 1, 8_000, 0.5, ""), "2.0 seconds of sound"),
        (Sound(0.26, 1, 8_000, 0.5, " \n"), "0.3 seconds of sound"),
        (Sound(2.0, 1, 8_000, 0.001, ""), "silence"),
        (Sound(2.0, 1, 8_000, 0.0, "hush"), "hush"),
    ],
)
def test_descriptions(sound: Sound, text: str) -> None:
    """A sound says its comment; without one it is told by length and loudness."""
    assert sounds.describe(sound) == text


def test_splitting_by_time() -> None:
    """Words and sentences take the time that their characters take; spaces around them are left out."""
    text = " One two. Three 4.5!  End"
    assert sounds.split_by_time(text, 2.5, by_word=False) == [
        TimedText(0.1, 0.9, "One two."),
        TimedText(1.0, 2.0, "Three 4.5!"),
        TimedText(2.2, 2.5, "End"),
    ]
    words = sounds.split_by_time(text, 2.5, by_word=True)
    assert [word.text for word in words] == ["One", "two.", "Three", "4.5!", "End"]
    assert words[1] == TimedText(0.5, 0.9, "two.")
    assert sounds.split_by_time(" \n", 2.5, by_word=True) == []


@given(st.text(max_size=300), st.floats(0, 1e9))
@settings(max_examples=100, deadline=None)
def test_splitting_loses_nothing(text: str, seconds: float) -> None:
    """All words of any text are in its pieces, in order of time."""
    for by_word in (True, False):
        pieces = sounds.split_by_time(text, seconds, by_word)
        assert " ".join(piece.text for piece in pieces).split() == text.split()
        times = [moment for piece in pieces for moment in (piece.start_seconds, piece.end_seconds)]
        assert times == sorted(times)
