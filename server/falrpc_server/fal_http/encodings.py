"""Content encodings that nobody asked for, undone within a bound. Pure."""

import zlib

__all__ = ["BadEncoding", "inflate", "is_plain"]

ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class BadEncoding(ValueError):
    """The encoding isn't known, or the body isn't in it."""


def is_plain(encoding: str) -> bool:
    """Whether a `Content-Encoding` says that there is none."""
    return encoding.strip().lower() in ("", "identity")


def inflate(body: bytes, encoding: str, bytes_max: int) -> tuple[bytes, bool]:
    """The decoded body, and whether it was whole. Raises BadEncoding.

    Args:
        bytes_max: How much is decoded; a body of more has one byte more than that, and isn't whole.
    """
    if is_plain(encoding) or not body:
        return body, True
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise BadEncoding("an encoding nobody asked for")
    decoder = zlib.decompressobj(wbits=ZLIB_OR_GZIP)
    try:
        return decoder.decompress(body, bytes_max + 1), decoder.eof
    except zlib.error as error:
        raise BadEncoding(f"not {encoding.strip().lower()}") from error
