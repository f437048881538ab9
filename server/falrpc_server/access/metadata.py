"""What metadata a call may bring. Pure.

grpc hands on whatever comes as a value: control bytes, NUL and line feeds among them, bytes that are no text,
the same name twice. It looks at names only. What is refused here is neither logged nor sent on.
"""

from collections.abc import Iterable

from falrpc_server.access.refusals import Kind, Refusal

__all__ = ["METADATA_BYTES_MAX", "check"]

METADATA_BYTES_MAX = 8_192
ENTRY_BYTES = 32  # that HTTP/2 counts for each entry beside name and value (RFC 9113, section 6.5.2)

_ONCE = frozenset({"authorization", "x-fal-key"})


def check(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Looks at a call's metadata as grpc gives it. Raises Refusal, which never repeats a value.

    Counted are the names and values that grpc gives, those of `-bin` decoded.
    """
    size = 0
    credentials: set[str] | None = None
    for name, value in metadata:
        size += len(name) + len(value) + ENTRY_BYTES
        if isinstance(value, bytes):
            if not name.endswith("-bin") and not _is_text(value):
                raise _refusal(f"the value of {_shown(name)} must be printable ASCII")
        # Of ASCII exactly 0x20 to 0x7e are printable.
        elif not (value.isascii() and value.isprintable()):
            raise _refusal(f"the value of {_shown(name)} must be printable ASCII")
        if name in _ONCE:
            credentials = set() if credentials is None else credentials
            if name in credentials:
                raise _refusal(f"{_shown(name)} may be given only once")
            credentials.add(name)
    if size > METADATA_BYTES_MAX:
        raise _refusal(
            f"the metadata has {size} bytes, counted as HTTP/2 does (32 for each entry beside its name and "
            f"value), of at most {METADATA_BYTES_MAX}"
        )


def _is_text(value: bytes) -> bool:
    return value.isascii() and value.decode("ascii").isprintable()


def _shown(name: str) -> str:
    """A name as it may be told: grpc lets only `[0-9a-z_.-]` through, but that is not ours to rely on."""
    return f"`{name}`" if len(name) <= 64 and name.isascii() and name.isprintable() else "an entry"


def _refusal(text: str) -> Refusal:
    return Refusal(Kind.BAD_METADATA, "METADATA_INVALID", f"metadata: {text}")
