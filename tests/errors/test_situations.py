"""The situations that every integration meets first, through real calls and real models."""

import asyncio
import json

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.conftest import KEY, Fal, Running, running_gateway
from tests.failures import Failure, failure_of, messages_and_failure, unpacked

from falrpc import v1

VIOLATIONS = 500
HEADER_LIST_BYTES = 8_192  # what grpc-java reads by default


def run(endpoint_id: str, **given: object) -> v1.RunRequest:
    return v1.RunRequest(endpoint_id=endpoint_id, input=v1.Input(json=json.dumps(given)))


async def finished(gateway: Running) -> dict[str, object]:
    """The log line of the only call, which follows its status."""
    while not (lines := gateway.logged("call.finished")):
        await asyncio.sleep(0.01)
    return lines[0]


async def test_an_unknown_model(gateway: Running) -> None:
    """An endpoint that doesn't exist is NOT_FOUND and names the model."""
    failed = await failure_of(gateway.stub.Run(run("fal-ai/no-such-model")))
    assert (failed.code, failed.info.reason, failed.delivery) == (
        "NOT_FOUND",
        "ENDPOINT_NOT_FOUND",
        "REJECTED",
    )
    resource = failed.find(error_details_pb2.ResourceInfo)
    assert resource is not None
    assert (resource.resource_type, resource.resource_name) == ("fal.model", "fal-ai/no-such-model")
    line = await finished(gateway)
    assert (line["code"], line["source"], line["http_status"]) == ("NOT_FOUND", "caller", 404)


async def test_a_missing_input(gateway: Running) -> None:
    """A missing input is INVALID_ARGUMENT with the field."""
    failed = await failure_of(gateway.stub.Run(run("fal-ai/flux/dev", seed=1)))
    assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "MISSING")
    assert failed.fields == ["input.prompt"]
    assert failed.find(error_details_pb2.RetryInfo) is None
    line = await finished(gateway)
    assert (line["source"], line["reason"], line["http_status"]) == ("caller", "MISSING", 422)
    assert line["request_id"] == failed.info.metadata["request_id"]


async def test_an_image_that_cannot_be_fetched(gateway: Running, unused_port: int) -> None:
    """An image URL that fal can't fetch is FAILED_PRECONDITION with the field: its host must be mended."""
    url = f"http://127.0.0.1:{unused_port}/a.png"
    failed = await failure_of(gateway.stub.Run(run("fal-ai/esrgan", image_url=url)))
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "FILE_DOWNLOAD_ERROR")
    assert failed.fields == ["input.image_url"]
    assert url not in failed.message


async def test_a_model_that_does_not_stream(gateway: Running) -> None:
    """Streaming a model that doesn't stream is FAILED_PRECONDITION, STREAMING_NOT_SUPPORTED."""
    request = v1.StreamRequest(endpoint_id="fal-ai/flux/dev", input=v1.Input(json='{"prompt":"x"}'))
    messages, failed = await messages_and_failure(gateway.stub.Stream(request))
    assert messages == []
    assert (failed.code, failed.info.reason) == ("FAILED_PRECONDITION", "STREAMING_NOT_SUPPORTED")


async def test_too_slow(gateway: Running) -> None:
    """A model that takes longer than the caller's deadline is DEADLINE_EXCEEDED."""
    failed = await failure_of(gateway.stub.Run(run("emulator/sleep", seconds=30), timeout=0.3))
    assert failed.code == "DEADLINE_EXCEEDED"
    line = await finished(gateway)
    assert line["code"] == "DEADLINE_EXCEEDED"


async def test_the_concurrency_limit(gateway: Running, fal: Fal) -> None:
    """Over the account's limit it is RESOURCE_EXHAUSTED with RetryInfo and QuotaFailure."""
    fal.will("concurrency_limit", limit=0)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert (failed.code, failed.info.reason) == ("RESOURCE_EXHAUSTED", "CONCURRENT_REQUESTS_LIMIT")
    retry, quota = failed.find(error_details_pb2.RetryInfo), failed.find(error_details_pb2.QuotaFailure)
    assert retry is not None
    assert retry.retry_delay.seconds >= 1
    assert quota is not None
    assert [violation.subject for violation in quota.violations] == ["concurrency"]
    assert (await finished(gateway))["source"] == "account"


async def test_a_step_of_a_workflow(gateway: Running) -> None:
    """A step's refused input is INVALID_ARGUMENT with the field, and metadata names the step."""
    request = v1.StreamWorkflowRequest(
        endpoint_id="workflows/emulator/failing-step", input=v1.Input(json='{"prompt":"x"}')
    )
    _, failed = await messages_and_failure(gateway.stub.StreamWorkflow(request))
    assert (failed.code, failed.info.reason) == ("INVALID_ARGUMENT", "VALUE_ERROR_NUMBER_NOT_LE")
    assert failed.fields == ["input.num_images"]
    assert failed.info.metadata["node_id"] == "node_2"


async def test_a_client_that_reads_little(gateway: Running, fal: Fal) -> None:
    """Of 500 violations in a non-Latin script a client that reads 8,192 bytes of headers is told what fits."""
    item = {"loc": ["body", "подсказка"], "msg": "поле обязательно для заполнения", "type": "missing"}
    fal.will("answer", operation="run", status=422, body=json.dumps({"detail": [item] * VIOLATIONS}))
    limits = [
        ("grpc.max_metadata_size", HEADER_LIST_BYTES),
        ("grpc.absolute_max_metadata_size", HEADER_LIST_BYTES),
    ]
    async with grpc.aio.insecure_channel(gateway.address, options=limits) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await v1.FalServiceStub(channel).Run(run("emulator/echo"))
    failed = unpacked(caught.value)
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.message.startswith('input["подсказка"]: поле обязательно')
    assert 5 < len(failed.fields) < VIOLATIONS
    left_out = VIOLATIONS - len(failed.fields)
    assert failed.info.metadata["truncated"] == f"{left_out} field violations"


@pytest.mark.parametrize("secret", [KEY, KEY.partition(":")[2]], ids=["key", "its secret half"])
async def test_fal_repeats_our_key(gateway: Running, fal: Fal, secret: str) -> None:
    """A key that stands in fal's error text gets neither to the caller nor into the log."""
    body = json.dumps({"detail": f"Key {secret} is odd", "error_type": "bad_request"})
    fal.will("answer", operation="run", status=400, body=body)
    failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
    assert failed.message == "Key [key] is odd"
    assert not _has(failed, secret)
    await finished(gateway)
    assert secret not in gateway.log_text


async def test_the_operators_affair(emulator_url: str, fal: Fal) -> None:
    """A key that fal refuses is the gateway's affair in the log, and no caller's."""
    async with running_gateway(emulator_url=emulator_url) as gateway:
        fal.will("fail", operation="run", kind="unknown_key")
        failed = await failure_of(gateway.stub.Run(run("emulator/echo")))
        assert (failed.code, failed.info.reason) == ("INTERNAL", "UPSTREAM_CREDENTIALS_REJECTED")
        line = await finished(gateway)
        assert (line["source"], line["http_status"]) == ("gateway", 401)


def _has(failed: Failure, text: str) -> bool:
    return text in failed.message or any(text in str(detail) for detail in failed.details)
