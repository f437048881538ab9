"""Interceptors that add a bearer token to each call. gRPC's own call credentials need TLS."""

from typing import Any

import grpc

__all__ = ["AIO_BEARERS", "Bearer"]


class _Token:
    """What all do: it is one more entry of the call's metadata."""

    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), self._entry)
        return continuation(details._replace(metadata=metadata), request)

    async def _aio_call(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._entry)
        return await continuation(details._replace(metadata=metadata), request)


class Bearer(
    _Token,
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    intercept_unary_unary: Any = _Token._call
    intercept_unary_stream: Any = _Token._call
    intercept_stream_unary: Any = _Token._call
    intercept_stream_stream: Any = _Token._call


# asyncio's channel takes an interceptor for one kind of calls only.
class _AioUnaryUnary(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _Token._aio_call


class _AioUnaryStream(_Token, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _Token._aio_call


class _AioStreamUnary(_Token, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _Token._aio_call


class _AioStreamStream(_Token, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _Token._aio_call


AIO_BEARERS = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)
