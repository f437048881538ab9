"""Fetching a URL to disk, on the user's side and without any credentials."""

from collections.abc import Callable
from typing import IO
from urllib.parse import urlsplit

import httpx

from falrpc_server.cli.channels import is_loopback
from falrpc_server.cli.session import CommandFailed

__all__ = ["Progress", "fetch"]

_SILENCE_SECONDS_MAX = 60.0

Progress = Callable[[int, int | None], None]
"""Called with the bytes done so far and with those in all, where known."""


def fetch(
    url: str, file: IO[bytes], *, bytes_max: int | None = None, progress: Progress | None = None
) -> str:
    """Writes what `url` leads to into `file` and returns its media type, which may be empty.

    Raises:
        CommandFailed: it can't be fetched, or is larger than `bytes_max`.
        OSError: it can't be written.
    """
    # A proxy in the environment is for other hosts than this one.
    environment = not is_loopback(_host(url))
    try:
        with (
            httpx.Client(timeout=_SILENCE_SECONDS_MAX, follow_redirects=True, trust_env=environment) as http,
            http.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            length = answer.headers.get("content-length", "")
            size = int(length) if length.isdecimal() else None
            done = 0
            for chunk in answer.iter_bytes():
                done += len(chunk)
                if bytes_max is not None and max(done, size or 0) > bytes_max:
                    raise CommandFailed(f"{url} is larger than {bytes_max} bytes")
                file.write(chunk)
                if progress:
                    progress(done, size)
            return str(answer.headers.get("content-type", ""))
    except httpx.HTTPStatusError as error:
        raise CommandFailed(f"{url} can't be fetched: HTTP {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandFailed(f"{url} can't be fetched: {error}") from error


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
