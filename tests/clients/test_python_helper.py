"""The Python helper, against a small gRPC server: what it sends, what it reads, and what it refuses."""

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import falrpc
from falrpc import channels, v1

SEED = 15860307465884635512
CHUNK = bytes(256 * 1024)
HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r")


class Service(v1.FalServiceServicer):
    """Answers little, and remembers what came."""

    def __init__(self) -> None:
        self.authorizations: list[Any] = []
        self.failures: list[status_pb2.Status] = []
        self.upload_ended = threading.Event()
        self.uploaded: bytes | None = None
        self.doubt_seconds = 0.0

    def _came(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        self.authorizations.append(metadata.get("authorization"))
        if self.failures:
            status = self.failures.pop(0)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNAVAILABLE, status.message)

    def Run(self, request: v1.RunRequest, context: grpc.ServicerContext) -> v1.RunResponse:
        self._came(context)
        return v1.RunResponse(output=v1.Output(json=request.input.json))

    def Status(self, request: v1.StatusRequest, context: grpc.ServicerContext) -> v1.StatusResponse:
        self._came(context)
        return v1.StatusResponse()

    def Stream(self, request: v1.StreamRequest, context: grpc.ServicerContext) -> Iterator[v1.StreamResponse]:
        self._came(context)
        yield v1.StreamResponse(started=v1.CallInfo(request_id="r"))

    def _fail(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._came(context)

    def _fail_streaming(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._came(context)
        yield

    Submit = Result = Cancel = _fail
    StreamStatus = Subscribe = StreamWorkflow = _fail_streaming

    def Upload(
        self, messages: Iterator[v1.UploadRequest], context: grpc.ServicerContext
    ) -> v1.UploadResponse:
        self._came(context)
        is_over = threading.Event()
        context.add_callback(is_over.set)
        try:
            content = b"".join(message.chunk for message in messages)
            # gRPC's server may tell of a cancellation as if it were the end, and correct itself later.
            if not is_over.wait(self.doubt_seconds):
                self.uploaded = content
        finally:
            self.upload_ended.set()
        return v1.UploadResponse(size=len(content))


@pytest.fixture
def service() -> Service:
    return Service()


@contextmanager
def serving(service: Service) -> Iterator[int]:
    """Serves on loopback, without TLS; yields the port."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)])
        v1.add_FalServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")  # where 0.0.0.0 leads, too
        server.start()
        yield port
        server.stop(None).wait()


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with serving(service) as one:
        yield one


@pytest.fixture
def stub(port: int) -> "Iterator[v1.FalServiceStub]":
    with falrpc.channel(f"127.0.0.1:{port}") as channel:
        yield v1.FalServiceStub(channel)


def unavailable(*details: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=14, message="not now")
    for detail in details:
        status.details.add().Pack(detail)
    return status


def info(**values: Any) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(domain="falrpc", **values)


def run_fails(stub: v1.FalServiceStub, service: Service, status: status_pb2.Status) -> grpc.RpcError:
    service.failures.append(status)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Run(v1.RunRequest(endpoint_id="a/b"), timeout=10)
    return caught.value


def test_a_token_comes_with_every_kind_of_call(port: int, service: Service) -> None:
    """Over plaintext, too, where gRPC's own call credentials refuse."""
    with falrpc.channel(f"localhost:{port}", token="let-me-in") as channel:
        stub = v1.FalServiceStub(channel)
        stub.Run(v1.RunRequest(), timeout=10, metadata=(("x-other", "kept"),))
        stub.Run(v1.RunRequest(), 10, (("x-other", "kept"),))
        stub.Run.with_call(v1.RunRequest(), timeout=10)
        stub.Run.future(request=v1.RunRequest(), timeout=10).result()
        stub.Upload(request_iterator=iter([v1.UploadRequest(chunk=b"a")]), timeout=10)
        list(stub.Stream(v1.StreamRequest(), timeout=10))
        stub.Upload(iter([v1.UploadRequest(chunk=b"a")]), timeout=10)
        falrpc.upload(stub, v1.UploadHeader(), io.BytesIO(b"a"), timeout=10)
    assert service.authorizations == ["Bearer let-me-in"] * 8


async def test_a_token_comes_with_every_kind_of_asyncio_call(port: int, service: Service) -> None:
    """As for threads."""
    async with falrpc.aio_channel(f"localhost:{port}", token="let-me-in") as channel:
        stub: Any = v1.FalServiceStub(channel)
        await stub.Run(v1.RunRequest(), timeout=10)
        assert [m.started.request_id async for m in stub.Stream(v1.StreamRequest(), timeout=10)] == ["r"]
        await stub.Upload(iter([v1.UploadRequest(chunk=b"a")]), timeout=10)
    assert service.authorizations == ["Bearer let-me-in"] * 3


def test_no_token(stub: v1.FalServiceStub, service: Service) -> None:
    """Without a token none is sent."""
    stub.Run(v1.RunRequest(), timeout=10)
    assert service.authorizations == [None]


ATTEMPTS = {
    "Run": 1,
    "Submit": 1,
    "Status": 3,
    "StreamStatus": 3,
    "Result": 3,
    "Cancel": 3,
    "Subscribe": 1,
    "Stream": 1,
    "StreamWorkflow": 1,
    "Upload": 1,
}


def test_all_methods_are_known() -> None:
    """ATTEMPTS leaves no method out."""
    [service] = v1.fal_service_pb2.DESCRIPTOR.services_by_name.values()
    assert set(ATTEMPTS) == set(service.methods_by_name.keys())


@pytest.mark.parametrize("method", ATTEMPTS)
def test_what_is_repeated(method: str, stub: v1.FalServiceStub, service: Service) -> None:
    """UNAVAILABLE is tried again, three times in all, where that is free, and never where it may cost."""
    service.failures = [unavailable(info(reason="UPSTREAM_UNREACHABLE"))] * 5
    with pytest.raises(grpc.RpcError):
        _call(stub, method)
    assert len(service.authorizations) == ATTEMPTS[method]


def _call(stub: v1.FalServiceStub, method: str) -> list[Any]:
    request = v1.UploadRequest if method == "Upload" else getattr(v1, f"{method}Request")
    made = getattr(stub, method)(iter([request()]) if method == "Upload" else request(), timeout=10)
    return list(made) if isinstance(made, Iterator) else [made]


async def test_what_is_repeated_in_asyncio(port: int, service: Service) -> None:
    """The service config is in effect there, too."""
    async with falrpc.aio_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = v1.FalServiceStub(channel)
        service.failures = [unavailable()] * 2
        await stub.Status(v1.StatusRequest(handle=HANDLE), timeout=10)
        service.failures = [unavailable()] * 2
        with pytest.raises(grpc.RpcError):
            await stub.Run(v1.RunRequest(), timeout=10)
    assert len(service.authorizations) == 3 + 1


def test_calls_are_spread() -> None:
    """All addresses of a target get calls."""
    services = [Service(), Service()]
    with serving(services[0]) as first, serving(services[1]) as second:
        target = f"ipv4:127.0.0.1:{first},127.0.0.1:{second}"
        with falrpc.channel(target, plaintext=True) as channel:
            stub = v1.FalServiceStub(channel)
            for _ in range(1_000):
                stub.Run(v1.RunRequest(), timeout=10)
                if all(service.authorizations for service in services):
                    break
    assert all(service.authorizations for service in services)


def test_options_of_the_caller(port: int) -> None:
    """They win over ours."""
    options = [("grpc.max_receive_message_length", 10)]
    with (
        falrpc.channel(f"127.0.0.1:{port}", options=options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        v1.FalServiceStub(channel).Run(v1.RunRequest(input=falrpc.input("x" * 100)), timeout=10)
    assert _code(caught.value) == "RESOURCE_EXHAUSTED"


def test_pings() -> None:
    """A connection is looked after, also without calls: half a minute is too long to wait for here."""
    options = dict(channels._options("gateway:50051"))
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_timeout_ms"] == 10_000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.max_pings_without_data"] == 0


@pytest.mark.parametrize("token", ["secret\n", "se cret", "sécret"])
def test_a_token_that_no_header_carries(token: str) -> None:
    """It is refused where it is given, and not shown."""
    for make in (falrpc.channel, falrpc.aio_channel):
        with pytest.raises(ValueError, match="printable ASCII") as caught:
            make("localhost:1", token=token)
        assert "cret" not in str(caught.value)


def test_a_closed_channel_with_a_token() -> None:
    """A call after close() raises: through gRPC's own interceptors it ends the process."""
    program = """
import falrpc
from falrpc import v1

channel = falrpc.channel("localhost:1", token="x")
stub = v1.FalServiceStub(channel)
channel.close()
for call in (stub.Run, stub.Run.future, stub.Run.with_call, stub.Stream):
    try:
        call(v1.RunRequest())
    except ValueError as error:
        print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line[:17] for line in ended.stdout.splitlines()] == ["Cannot invoke RPC"] * 4


def _code(error: grpc.RpcError) -> str:
    return str(error.code().name)  # type: ignore[attr-defined] # an error of a call has it


def test_tls_unless_it_is_this_machine(port: int, service: Service) -> None:
    """An address that is not loopback is spoken to with TLS, unless the caller says otherwise."""
    with (
        falrpc.channel(f"0.0.0.0:{port}", token="secret") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        v1.FalServiceStub(channel).Run(v1.RunRequest(), timeout=10)
    assert _code(caught.value) == "UNAVAILABLE"
    assert service.authorizations == []
    with falrpc.channel(f"0.0.0.0:{port}", plaintext=True) as channel:
        v1.FalServiceStub(channel).Run(v1.RunRequest(), timeout=10)


@pytest.mark.parametrize(
    "target",
    ["localhost:{}", "127.0.0.1:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}", "dns:127.0.0.1:{}"],
)
def test_plaintext_on_this_machine(target: str, port: int, service: Service) -> None:
    """However loopback is written."""
    with falrpc.channel(target.format(port)) as channel:
        v1.FalServiceStub(channel).Run(v1.RunRequest(), timeout=10)


@pytest.mark.parametrize(
    "target",
    [
        "dns://10.0.0.1/localhost:1",
        "0.0.0.0:1/localhost",
        "127.0.0.1.example.com:1",
        "127.999.999.999:1",
        "localhost.example.com:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "xds:///localhost",
        "[2001:db8::1]:1",
        "gateway:1",
        "",
    ],
)
def test_what_is_not_this_machine(target: str) -> None:
    """Plaintext is for loopback addresses and their name, not for what only looks like them."""
    assert not channels._is_loopback(target)


@pytest.mark.parametrize("target", ["LocalHost:1", "[::1]:1", "::1", "ipv6:[::1]:1", "unix:/run/falrpc.sock"])
def test_what_is_this_machine(target: str) -> None:
    """Other ways to write it than those that were connected to."""
    assert channels._is_loopback(target)


def test_tls_or_plaintext(port: int) -> None:
    """Credentials and `plaintext` contradict each other."""
    with pytest.raises(ValueError, match="credentials are for TLS"):
        falrpc.channel("host:1", credentials=grpc.ssl_channel_credentials(), plaintext=True)


def test_large_messages(stub: v1.FalServiceStub) -> None:
    """An answer of more than gRPC's 4 MiB arrives."""
    given = falrpc.input("x" * 5_000_000)
    assert stub.Run(v1.RunRequest(input=given), timeout=30).output.json == given.json


@pytest.mark.parametrize("value", [{"seed": SEED}, [2**200, -(2**63)], "é\u2028<&>", None, {"a": 0.1}])
def test_values_survive(value: Any) -> None:
    """What is made an input and decoded is the same, integers of any size included."""
    assert falrpc.decode(v1.Output(json=falrpc.input(value).json)) == value


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, {"a": {1, 2}}, b"bytes"])
def test_values_without_json(value: Any) -> None:
    """What JSON can't hold is refused, instead of sent as something that no other parser reads."""
    with pytest.raises((TypeError, ValueError)):
        falrpc.input(value)


def test_outputs_that_are_not_json() -> None:
    """Bytes are not decoded: the error says what they are."""
    with pytest.raises(ValueError, match="'image/png'"):
        falrpc.decode(v1.Output(binary=v1.BinaryOutput(content_type="image/png", data=b"1")))
    with pytest.raises(ValueError, match="not JSON"):
        falrpc.decode(v1.Output())
    with pytest.raises(ValueError, match="Expecting value"):
        falrpc.decode(v1.Output(json="<html>"))


def test_details_are_read(stub: v1.FalServiceStub, service: Service) -> None:
    """Reason, metadata, delay and violations, whatever their order."""
    delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000))
    fields = error_details_pb2.BadRequest()
    fields.field_violations.add(field="input.prompt", description="Field required")
    told = info(reason="UPSTREAM_BUSY", metadata={"delivery": "NOT_SENT"})
    error = run_fails(stub, service, unavailable(delay, fields, told))
    assert falrpc.safe_to_repeat(error)
    assert falrpc.reason(error) == "UPSTREAM_BUSY"
    assert falrpc.metadata(error) == {"delivery": "NOT_SENT"}
    assert falrpc.retry_after(error) == timedelta(seconds=1.5)
    assert [violation.field for violation in falrpc.field_violations(error)] == ["input.prompt"]


def test_a_delay_of_zero(stub: v1.FalServiceStub, service: Service) -> None:
    """ "At once" is not "nothing is known"."""
    delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration())
    assert falrpc.retry_after(run_fails(stub, service, unavailable(delay))) == timedelta(0)


def test_a_status_of_somebody_else(stub: v1.FalServiceStub, service: Service) -> None:
    """Without our ErrorInfo nothing is promised: also when details are there, or can't be read."""
    broken = unavailable()
    broken.details.append(any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"))
    other = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="mesh.example", metadata={"a": "b"})
    for status in (unavailable(), unavailable(error_details_pb2.RetryInfo()), unavailable(other), broken):
        error = run_fails(stub, service, status)
        assert not falrpc.safe_to_repeat(error)
        assert (falrpc.reason(error), falrpc.metadata(error)) == ("", {})
        assert (falrpc.retry_after(error), list(falrpc.field_violations(error))) == (None, [])


def test_an_upload(stub: v1.FalServiceStub, service: Service) -> None:
    """All bytes come, from where the file stands."""
    file = io.BytesIO(b"skipped" + CHUNK + b"end")
    file.seek(7)
    assert falrpc.upload(stub, v1.UploadHeader(file_name="a"), file, timeout=30).size == len(CHUNK) + 3
    assert service.uploaded == CHUNK + b"end"


class Failing(io.RawIOBase):
    """A file that can be read so many times."""

    def __init__(self, reads: int) -> None:
        self._reads = reads

    def read(self, size: int = -1) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise OSError("the disk is gone")
        return CHUNK


@pytest.mark.parametrize("reads", [0, 1, 5])
def test_an_upload_whose_file_fails(reads: int, stub: v1.FalServiceStub, service: Service) -> None:
    """The file's own error is raised, and the call is cancelled: what came is not taken for the file."""
    service.doubt_seconds = 10
    with pytest.raises(OSError, match="the disk is gone"):
        falrpc.upload(stub, v1.UploadHeader(file_name="a"), Failing(reads), timeout=30)
    assert not service.authorizations or service.upload_ended.wait(20)
    assert service.uploaded is None


def test_an_upload_that_is_refused(stub: v1.FalServiceStub, service: Service) -> None:
    """The service's status is raised, though the file has more."""
    service.failures.append(unavailable(info(reason="UPSTREAM_UNREACHABLE")))
    with pytest.raises(grpc.RpcError) as caught:
        falrpc.upload(stub, v1.UploadHeader(file_name="a"), Failing(2_000), timeout=30)
    assert falrpc.reason(caught.value) == "UPSTREAM_UNREACHABLE"
