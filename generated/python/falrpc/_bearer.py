"""A bearer token in the metadata of each call. gRPC's own call credentials need TLS."""

from typing import Any

import grpc

__all__ = ["AIO_BEARERS", "BearerChannel"]


class BearerChannel(grpc.Channel):
    """A channel whose calls carry a token.

    Not made by grpc.intercept_channel(): there a call on a closed channel ends the process (grpcio 1.85).
    """

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._channel = channel
        self._entry = ("authorization", f"Bearer {token}")

    def unary_unary(self, *given: Any, **more: Any) -> Any:
        return _Method(self._channel.unary_unary(*given, **more), self._entry)

    def unary_stream(self, *given: Any, **more: Any) -> Any:
        return _Method(self._channel.unary_stream(*given, **more), self._entry)

    def stream_unary(self, *given: Any, **more: Any) -> Any:
        return _Method(self._channel.stream_unary(*given, **more), self._entry)

    def stream_stream(self, *given: Any, **more: Any) -> Any:
        return _Method(self._channel.stream_stream(*given, **more), self._entry)

    def subscribe(self, *given: Any, **more: Any) -> None:
        self._channel.subscribe(*given, **more)

    def unsubscribe(self, *given: Any, **more: Any) -> None:
        self._channel.unsubscribe(*given, **more)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "BearerChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Method:
    """A method of a stub. Called, it adds the entry to the call's metadata, the third argument."""

    def __init__(self, method: Any, entry: tuple[str, str]) -> None:
        self._method, self._entry = method, entry

    def __call__(self, *given: Any, **more: Any) -> Any:
        given, more = self._signed(given, more)
        return self._method(*given, **more)

    def with_call(self, *given: Any, **more: Any) -> Any:
        given, more = self._signed(given, more)
        return self._method.with_call(*given, **more)

    def future(self, *given: Any, **more: Any) -> Any:
        given, more = self._signed(given, more)
        return self._method.future(*given, **more)

    def _signed(self, given: tuple[Any, ...], more: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(given) > 2:
            return (*given[:2], (*(given[2] or ()), self._entry), *given[3:]), more
        return given, {**more, "metadata": (*(more.get("metadata") or ()), self._entry)}


class _Interceptor:
    """Adds the token to calls of asyncio's channel, which takes an interceptor for each kind of calls."""

    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    async def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._entry)
        return await continuation(details._replace(metadata=metadata), request)


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _Interceptor._call


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _Interceptor._call


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _Interceptor._call


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _Interceptor._call


AIO_BEARERS = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
