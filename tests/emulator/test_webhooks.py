"""Webhooks of queue requests, from submit to delivery (fal-http-api.md §11), through the emulator."""

import asyncio
import json
from typing import Any

import httpx
import pytest
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
