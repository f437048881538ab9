"""What a stranger finds at the port: health, and nothing else."""

import json
from collections import Counter

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conftest import Fal, Running, running_gateway
from tests.failures import ended, failure_of
from tests.faults.calls import RPCS, prepared
from tests.faults.each_call import code_of
from tests.security.each_method import SENTENCES, begun, nothing_came
from tests.security.guarded import Files, guarded_gateway
from tests.service.test_run import run
from tests.service.test_server import SERVING, reflected

from falrpc import v1

TOKEN = "c4n4ry-token-of-the-shop"
BEARER = (("authorization", f"Bearer {TOKEN}"),)
PROMPT = "c4n4ry prompt about nobody's business"
ELSEWHERE = (
    "/grpc.channelz.v1.Channelz/GetServers",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
    "/grpc.testing.TestService/UnaryCall",
    "/falrpc.v1.FalService/Delete",
    "/falrpc.v1.FalService/run",
    "/falrpc.v1.FalService/",
    "/falrpc.v2.FalService/Run",
    "/falrpc.v1.AdminService/Run",
    "/metrics",
    "/debug/pprof",
)


def closed(files: Files) -> dict[str, object]:
    """Settings of a gateway whose port strangers reach."""
    tokens = files.tokens({"shop": TOKEN})
    return {"listen": "0.0.0.0:0", "auth": ("tokens",), "tokens_file": tokens} | files.tls()


async def test_health_is_open_and_nothing_else(emulator_url: str, fal: Fal, files: Files) -> None:
    """Without a credential health is told, and every other name is UNIMPLEMENTED or UNAUTHENTICATED."""
    async with guarded_gateway(emulator_url, **closed(files)) as gateway:
        credentials = grpc.ssl_channel_credentials(files.authority.pem)
        address = gateway.address.replace("0.0.0.0", "127.0.0.1")
        async with grpc.aio.secure_channel(address, credentials) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "falrpc.v1.FalService"):
                assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            watch.cancel()
            for path in ELSEWHERE:
                for metadata in ((), BEARER):
                    call = channel.unary_unary(path)(b"", metadata=metadata, timeout=30)
                    assert await call.code() == grpc.StatusCode.UNIMPLEMENTED, path
                    assert (
                        path.rpartition("/")[2] not in (await call.details() or "").split()
                        or path == "/metrics"
                    )
            stub = v1.FalServiceStub(channel)
            failed = await failure_of(stub.Run(run("emulator/echo"), timeout=30))
            assert (failed.code, failed.message) == ("UNAUTHENTICATED", SENTENCES["tokens"])
            nothing_came(fal)
            assert await ended(begun(stub, "Run", metadata=BEARER)) == "OK"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
async def test_reflection_is_for_loopback(emulator_url: str, fal: Fal, files: Files, listen: str) -> None:
    """A listener that others reach describes itself to nobody, credentials or not; a loopback one does."""
    settings = closed(files) | {"listen": listen, "tls_certificate_file": "", "tls_key_file": ""}
    async with running_gateway(emulator_url=emulator_url, **settings) as gateway:
        address = f"127.0.0.1:{gateway.address.rpartition(':')[2]}"
        async with grpc.aio.insecure_channel(address) as channel:
            for version in ("v1", "v1alpha"):
                path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                for metadata in ((), BEARER):
                    call = channel.stream_stream(path)(iter([b"\x3a\0"]), metadata=metadata, timeout=30)
                    assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
    async with running_gateway(emulator_url=emulator_url) as gateway:
        assert "falrpc.v1.FalService" in await reflected(gateway)


async def test_what_a_stranger_is_told(emulator_url: str, fal: Fal, files: Files) -> None:
    """Names that are not there are not repeated, whatever bytes they have, and not logged."""
    settings = closed(files) | {"tls_certificate_file": "", "tls_key_file": "", "listen": "127.0.0.1:0"}
    async with guarded_gateway(emulator_url, **settings) as gateway:
        for name in ("c4n4ry", "c4n4ry%00", "<script>c4n4ry</script>", "c4n4ry" * 500, "../c4n4ry"):
            call = gateway.channel.unary_unary(f"/falrpc.v1.FalService/{name}")(b"", timeout=30)
            assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
            assert "c4n4ry" not in f"{await call.details()}{await call.trailing_metadata()}"
        nothing_came(fal)
        assert "c4n4ry" not in gateway.log_text
        assert await ended(begun(gateway.stub, "Run", metadata=BEARER)) == "OK"


def test_the_services_that_there_are() -> None:
    """The tests here look for what the contract has: one service, and its package."""
    file = descriptor_pb2.FileDescriptorProto()
    v1.RunRequest.DESCRIPTOR.file.CopyToProto(file)
    assert [service.name for service in file.service] == ["FalService"]


# The account of what was spent


async def test_a_line_for_each_paid_request(emulator_url: str, fal: Fal, files: Files) -> None:
    """For each paid request that reached fal there is one line: who, what, how it ended, never a prompt."""
    settings = {"auth": ("tokens",), "tokens_file": files.tokens({"shop": TOKEN})}
    paid = [rpc for rpc in RPCS if rpc.is_paid]
    free = [await prepared(rpc, emulator_url) for rpc in RPCS if not rpc.is_paid]
    fal.reset()
    async with guarded_gateway(emulator_url, **settings) as gateway:
        count = 0
        for number in range(3):
            for rpc in paid:
                asked = rpc.make(v1.RequestHandle())
                holder = asked.submit if rpc.method == "Subscribe" else asked
                holder.input.json = holder.input.json.replace('"id":"', f'"id":"{PROMPT} ')
                await code_of(getattr(gateway.stub, rpc.method)(asked, metadata=BEARER, timeout=60))
                await code_of(getattr(gateway.stub, rpc.method)(asked, timeout=60))  # a stranger
                count += 2
            holder.endpoint_id = "../x"
            await code_of(getattr(gateway.stub, rpc.method)(asked, metadata=BEARER, timeout=60))
            for asked in free:
                method = type(asked).__name__.removesuffix("Request")
                await code_of(getattr(gateway.stub, method)(asked, metadata=BEARER, timeout=60))
            count += 1 + len(free)
            # Failures of fal's, and answers that are lost, are paid for, too
            acts = ({"act": "fail", "kind": "runner_disconnected"}, {"act": "close_after_body"})
            fal.will(**acts[number % 2], operation="run")
            await code_of(gateway.stub.Run(run("emulator/echo", json.dumps({"p": PROMPT})), metadata=BEARER))
            count += 1
        lines = await gateway.finished(count)
        billed = [line for line in lines if line["paid"]]
        operations = {"Run": "run", "Submit": "submit", "Subscribe": "submit", "Stream": "stream"}
        operations["StreamWorkflow"] = "stream"
        seen = Counter(
            r["operation"] for r in fal.received() if r["operation"] in ("run", "submit", "stream")
        )
        assert Counter(operations[line["method"]] for line in billed) == seen
        assert sum(seen.values()) == len(billed) == 3 * (len(paid) + 1)
        for line in billed:
            assert (line["identity"], line["tenant"]) == ("shop", "default")
            assert line["endpoint_id"].count("/") >= 1
            assert line["code"]
            assert line["duration_seconds"] > 0
            assert line["request_id"] or line["code"] != "OK"
        assert "c4n4ry" not in gateway.log_text


async def test_strangers_and_the_denied_pay_nothing(gateway: Running, fal: Fal) -> None:
    """A call that is refused here is not said to be paid."""
    for endpoint in ("", "../x", "x"):
        await code_of(gateway.stub.Run(run(endpoint), timeout=30))
    assert [line["paid"] for line in await gateway.finished(3)] == [False] * 3
    nothing_came(fal)
    await gateway.stub.Run(run("emulator/echo"), timeout=30)
    assert (await gateway.finished(4))[-1]["paid"] is True
