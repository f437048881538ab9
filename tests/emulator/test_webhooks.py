"""Webhooks of queue requests, from submit to delivery (fal-http-api.md §11), through the emulator."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from tests.emulator.queueing import known, queued
from tests.emulator.running import Emulator, eventually
from tests.emulator.test_signing import public_keys, verifies
from tests.emulator.webhook_receiver import Receiver, reply, until


@pytest.mark.parametrize(
    ("endpoint", "given", "wanted"),
    [
        pytest.param("emulator/echo", {"number": 1}, {"status": "OK"}, id="ok"),
        pytest.param(
            "fal-ai/flux/dev", {}, {"status": "ERROR", "error": "Invalid status code: 422"}, id="error"
        ),
    ],
)
async def test_through_the_emulator(
    emulator: Emulator, endpoint: str, given: dict[str, Any], wanted: dict[str, str]
) -> None:
    """A request submitted with fal_webhook ends in a POST that verifies and carries what the queue stores."""
    async with Receiver(reply(500), reply(200)).running() as receiver:
        query = {"fal_webhook": receiver.url}
        submitted = await asyncio.to_thread(emulator.submit, endpoint, given, params=query)
        result = await asyncio.to_thread(emulator.result, submitted)
        await until(lambda: len(receiver.received) == 2)
        jwks = await asyncio.to_thread(
            httpx.get, f"{emulator.url}/rest/.well-known/jwks.json", trust_env=False
        )
        for request in receiver.received:
            assert verifies(public_keys(jwks.content), request.headers, request.body)
        request, request_id = receiver.received[-1], submitted.json()["request_id"]
        assert request.headers["X-Fal-Webhook-Request-Id"] == request_id
        assert request.headers["X-Fal-Webhook-User-Id"] == "test-id"
        ids = {"request_id": request_id, "gateway_request_id": request_id}
        assert json.loads(request.body) == {**ids, **wanted, "payload": result.json()}
        assert result.content in request.body
        (record,) = await asyncio.to_thread(delivered, emulator, request_id)
        assert [attempt["status"] for attempt in record["attempts"]] == [500, 200]


def delivered(emulator: Emulator, request_id: str) -> list[dict[str, Any]]:
    """The emulator's records of a request's deliveries, once they are over."""

    def look() -> list[dict[str, Any]]:
        records = emulator.http.get("/_emulator/webhooks").json()
        return [record for record in records if record["request_id"] == request_id]

    return list(eventually(look, lambda found: found and found[0]["outcome"] == "delivered"))


async def test_odd_url_at_submit(emulator: Emulator) -> None:
    """A URL that can't be sent anything doesn't keep a request from being accepted and ending."""
    query = {"fal_webhook": "http://[::1"}
    submitted = await asyncio.to_thread(emulator.submit, "emulator/echo", {}, params=query)
    assert submitted.status_code == 200
    assert (await asyncio.to_thread(emulator.result, submitted)).status_code == 200
    records = (await asyncio.to_thread(emulator.http.get, "/_emulator/webhooks")).json()
    (record,) = [one for one in records if one["request_id"] == submitted.json()["request_id"]]
    assert (record["outcome"], record["attempts"]) == ("dropped", [])


async def told(emulator: Emulator, endpoint: str, given: Any, headers: dict[str, str]) -> dict[str, Any]:
    """Submits a request and returns its submit answer, the webhook's body and the delivery's record."""
    async with Receiver(reply(200)).running() as receiver:
        query = {"fal_webhook": receiver.url}
        submitted = await asyncio.to_thread(emulator.submit, endpoint, given, params=query, headers=headers)
        await until(lambda: receiver.received)
        (record,) = await asyncio.to_thread(delivered, emulator, submitted.json()["request_id"])
    (request,) = receiver.received
    return {"submitted": submitted, "body": json.loads(request.body), "record": record}


@pytest.mark.parametrize(
    ("endpoint", "given", "wanted"),
    [
        pytest.param("emulator/blob", {"bytes": 16, "binary": True}, {"status": "OK"}, id="picture"),
        pytest.param("emulator/answer", {"text": "<html>"}, {"status": "OK"}, id="html"),
        pytest.param(
            "emulator/answer",
            {"text": "", "status": 404},
            {"status": "ERROR", "error": "Invalid status code: 404"},
            id="failure",
        ),
    ],
)
async def test_an_output_that_is_not_json(
    emulator: Emulator, endpoint: str, given: Any, wanted: dict[str, str]
) -> None:
    """An output that can't be embedded is left out and says so; the queue has it."""
    seen = await told(emulator, endpoint, given, {})
    assert seen["body"].pop("payload_error").startswith("Response payload is not JSON serializable.")
    request_id = seen["submitted"].json()["request_id"]
    ids = {"request_id": request_id, "gateway_request_id": request_id}
    assert seen["body"] == {**ids, **wanted, "payload": None}
    result = await asyncio.to_thread(emulator.result, seen["submitted"])
    assert result.status_code == given.get("status", 200)


async def test_after_a_retry(emulator: Emulator) -> None:
    """A webhook comes once, when all attempts are over, with the id of the last one next to the first."""
    seen = await told(emulator, "emulator/echo", {"a": 1}, queued(retries=2))
    request = await asyncio.to_thread(known, emulator, seen["submitted"])
    assert (request["attempts"], request["state"]) == (3, "COMPLETED")
    assert seen["body"]["request_id"] == seen["submitted"].json()["request_id"]
    assert seen["body"]["gateway_request_id"] == request["gateway_request_id"] != request["request_id"]
    assert (seen["body"]["status"], seen["body"]["payload"]) == ("OK", {"a": 1})


async def test_a_request_error(emulator: Emulator) -> None:
    """When fal itself fails a request, the webhook carries the status and fal's body."""
    headers = {**queued(retries=1), "X-Fal-No-Retry": "1"}
    body = (await told(emulator, "emulator/echo", {}, headers))["body"]
    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 503")
    assert body["payload"] == {"detail": "Runner disconnected", "error_type": "runner_disconnected"}


async def test_a_cancelled_request(emulator: Emulator) -> None:
    """A request that is cancelled while it waits ends in a webhook, too."""
    async with Receiver(reply(200)).running() as receiver:
        submitted = await asyncio.to_thread(
            emulator.submit,
            "emulator/echo",
            {},
            params={"fal_webhook": receiver.url},
            headers=queued(delay_seconds=1_000_000),
        )
        await asyncio.to_thread(emulator.http.put, submitted.json()["cancel_url"])
        await until(lambda: receiver.received)
    body = json.loads(receiver.received[0].body)
    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 499")
    assert body["payload"]["error_type"] == "client_cancelled"


async def test_an_odd_error_body(emulator: Emulator) -> None:
    """A failure that names an error type ends in a webhook however deep its body is."""
    given = {"status": 500, "headers": {"x-fal-error-type": "odd"}, "text": '{"x":' + "[" * 20_000}
    body = (await told(emulator, "emulator/answer", given, {}))["body"]
    assert (body["status"], body["payload"]) == ("ERROR", None)


async def test_the_report(emulator: Emulator) -> None:
    """The report has a delivery's URL, request, outcome and attempts, each with time and status."""
    seen = await told(emulator, "emulator/echo", {}, {})
    record = seen["record"]
    (attempt,) = record.pop("attempts")
    assert record.pop("url").startswith("http://127.0.0.1:")
    request_id = seen["submitted"].json()["request_id"]
    assert record == {"request_id": request_id, "outcome": "delivered", "reason": ""}
    assert attempt.keys() == {"at", "after_seconds", "status"}
    assert attempt["status"] == 200
    assert 0 <= attempt["after_seconds"] < 20 * 60  # emulated ones: 20 pass in a second
    assert (await asyncio.to_thread(emulator.http.post, "/_emulator/webhooks")).status_code == 405


async def test_only_the_query_asks_for_a_webhook(emulator: Emulator) -> None:
    """A body field is a model's input, and a synchronous run has no webhook (§7.2)."""
    async with Receiver(reply(200)).running() as receiver:
        given = {"webhook_url": receiver.url, "fal_webhook": receiver.url}
        submitted = await asyncio.to_thread(emulator.submit, "emulator/echo", given)
        assert (await asyncio.to_thread(emulator.result, submitted)).json() == given
        query = {"fal_webhook": receiver.url}
        ran = await asyncio.to_thread(emulator.run, "emulator/echo", {}, params=query)
        assert ran.status_code == 200
        records = (await asyncio.to_thread(emulator.http.get, "/_emulator/webhooks")).json()
    assert receiver.url not in {record["url"] for record in records}
    assert receiver.received == []
