"""Values as inputs, outputs as values, files as uploads."""

import json
import threading
from collections.abc import Iterator
from typing import IO, Any, cast

import grpc

from falrpc import v1

__all__ = ["decode", "input", "upload"]

_CHUNK_BYTES = 256 * 1024


def input(value: Any) -> v1.Input:
    """Turns a value into a model's input, by its JSON form. Numbers keep all their digits.

    Raises:
        TypeError, ValueError: The value has no JSON form; NaN and infinity have none.
    """
    return v1.Input(json=json.dumps(value, ensure_ascii=False, allow_nan=False))


def decode(output: v1.Output) -> Any:
    """Reads a model's JSON output. Integers have any size.

    Raises:
        ValueError: The output is not JSON.
    """
    if output.WhichOneof("value") != "json":
        raise ValueError(f"the output is not JSON but {output.binary.content_type!r}")
    return json.loads(output.json)


def upload(
    stub: v1.FalServiceStub, header: v1.UploadHeader, file: IO[bytes], *, timeout: float | None = None
) -> v1.UploadResponse:
    """Stores what a file has, from where it stands, and returns where. When reading fails, nothing is stored.

    Not for asyncio, whose client loses a status that comes while it writes (grpc/grpc#36066): use
    `asyncio.to_thread` with a channel() of its own.

    Args:
        stub: The stub of a channel().
        header: Of it only the file name is required.
        file: Opened for reading bytes.
        timeout: Of the whole call, in seconds.

    Raises:
        grpc.RpcError: The call failed.
        Exception: Whatever reading the file raised.
    """
    failures: list[Exception] = []
    is_made = threading.Event()

    def messages() -> Iterator[v1.UploadRequest]:
        yield v1.UploadRequest(header=header)
        try:
            while chunk := file.read(_CHUNK_BYTES):
                yield v1.UploadRequest(chunk=chunk)
        except Exception as failure:
            failures.append(failure)
            is_made.wait()
            call.cancel()  # else what was sent so far were taken for the file

    call = cast(Any, stub.Upload).future(messages(), timeout=timeout)
    is_made.set()
    try:
        return cast(v1.UploadResponse, call.result())
    except (grpc.RpcError, grpc.FutureCancelledError):
        if failures:
            raise failures[0] from None
        raise
    finally:
        call.cancel()  # of use when something else ended the wait
