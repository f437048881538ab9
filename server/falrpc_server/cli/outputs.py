"""The files that an output names: finding them, naming them, saving them.

A file is an object with a `url` (fal-http-api.md §10.10), which may be a data: URI, or a bare data:
URI. Downloads send no credentials.
"""

import base64
import binascii
import json
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from falrpc import v1
from falrpc_server.cli.downloads import fetch
from falrpc_server.cli.inputs import is_json
from falrpc_server.cli.session import CommandFailed

__all__ = ["FileReference", "SavedFiles", "file_name", "files_in", "save_files"]

_NAME_CHARACTERS_MAX = 60  # at most 240 bytes of UTF-8


@dataclass(frozen=True)
class FileReference:
    """A file as an output names it."""

    url: str
    file_name: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class SavedFiles:
    """Where files were saved, and sentences about those that were not."""

    paths: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def files_in(json_text: str) -> list[FileReference]:
    """The files of an output, in its order, each URL once. Text that is not JSON has none."""
    found: dict[str, FileReference] = {}
    for reference in _walk(json.loads(json_text, parse_int=float) if is_json(json_text) else None):
        found.setdefault(reference.url, reference)
    return list(found.values())


def file_name(reference: FileReference) -> str:
    """A name for the file on this disk: fal's name for it, else the URL's last part, else `output`."""
    is_data = reference.url.startswith("data:")
    name = reference.file_name or ("" if is_data else unquote(urlsplit(reference.url).path))
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(c for c in name if c.isprintable()).lstrip(". ")[-_NAME_CHARACTERS_MAX:] or "output"
    content_type = reference.content_type or (reference.url[5:].partition(",")[0] if is_data else "")
    if not Path(name).suffix:
        name += mimetypes.guess_extension(content_type.partition(";")[0].strip()) or ""
    return name


def save_files(output: v1.Output, directory: Path) -> SavedFiles:
    """Saves every file of `output`, or a binary output itself, into `directory`.

    No existing file is overwritten: names get a number. A file that can't be had does not stop the
    others.
    """
    saved = SavedFiles()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for reference in _references(output):
            try:
                saved.paths.append(_save(reference, directory))
            except CommandFailed as error:
                saved.problems.append(str(error))
    except OSError as error:
        saved.problems.append(f"can't write into {directory}: {error}")
    return saved


def _references(output: v1.Output) -> list[FileReference]:
    if output.WhichOneof("value") == "binary":
        content = base64.b64encode(output.binary.data).decode()
        return [FileReference(f"data:;base64,{content}", content_type=output.binary.content_type)]
    return files_in(output.json)


def _walk(value: Any) -> Iterator[FileReference]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item)
    elif isinstance(value, dict):
        url = value.get("url")
        if isinstance(url, str) and url.startswith(("https://", "http://", "data:")):
            yield FileReference(url, _text(value.get("file_name")), _text(value.get("content_type")))
        for item in value.values():
            yield from _walk(item)
    elif isinstance(value, str) and value.startswith("data:") and ";base64," in value[:200]:
        yield FileReference(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _save(reference: FileReference, directory: Path) -> Path:
    with _create(directory, file_name(reference)) as file:
        path = Path(file.name)
        try:
            if reference.url.startswith("data:"):
                file.write(_data(reference.url))
            else:
                fetch(reference.url, file)
        except BaseException:
            path.unlink()
            raise
    return path


def _create(directory: Path, name: str) -> IO[bytes]:
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    while True:
        try:
            return (directory / (name if number == 1 else f"{stem}-{number}{suffix}")).open("xb")
        except FileExistsError:
            number += 1


def _data(url: str) -> bytes:
    header, _, content = url.partition(",")
    if not header.endswith(";base64"):
        return unquote_to_bytes(content)
    try:
        return base64.b64decode(unquote_to_bytes(content), validate=True)
    except binascii.Error as error:
        raise CommandFailed(f"the output has a broken data: URI ({error})") from None
