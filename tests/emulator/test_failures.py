"""Failures on demand: fal's own, by name, and the pages of the proxy in front of it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.emulator.running import Emulator

from falrpc_server.emulator.failures import EDGE_STATUSES, FAILURES, REQUEST_ERRORS

SENTENCE = b'{"a":"0123456789"}'
HTTP_DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
ADDED = {"x-fal-request-id", "content-length"}
OF_THE_SDK = ("value_error", "input_value_error")
FAL_HTTP_API = Path(__file__).parents[2] / "docs/fal-http-api.md"


@pytest.mark.parametrize("kind", FAILURES)
def test_fail(emulator: Emulator, kind: str) -> None:
    """`fail` answers with each failure byte for byte, and with a request id that the failure has not itself."""
    emulator.will("fail", kind=kind)
    answer = emulator.run("emulator/echo", SENTENCE)
    failure = FAILURES[kind]
    assert (answer.status_code, answer.content) == (failure.status, failure.body)
    assert {n: v for n, v in answer.headers.items() if n not in ADDED} == dict(failure.headers)
    assert answer.headers["content-length"] == str(len(failure.body))
    assert len(answer.headers["x-fal-request-id"]) == 36
    assert emulator.run("emulator/echo", SENTENCE).content == SENTENCE


def rows(section: str) -> dict[str, list[str]]:
    """The tables of a section of fal-http-api.md, by their first column."""
    text = FAL_HTTP_API.read_text().partition(f"### {section} ")[2].partition("\n###")[0]
    cells = [
        line.strip("|").split("|")
        for line in text.splitlines()
        if line.startswith("| `") and "type` |" not in line
    ]
    return {name: [c.strip() for c in row[1:]] for row in cells for name in re.findall("`([^`]+)`", row[0])}


def test_request_errors_as_documented() -> None:
    """The request errors are those of §12.1, with their statuses, and those with a hint to retry are transient."""
    table = rows("12.1")
    assert REQUEST_ERRORS.keys() == table.keys()
    for name, (status, _, transient) in table.items():
        failure = FAILURES[name]
        assert failure.status == int(status)
        assert (failure.headers.get("x-fal-needs-retry") == "1") == transient.startswith("yes"), name
        assert json.loads(failure.body)["error_type"] == failure.headers["x-fal-error-type"] == name


def test_model_errors_as_documented() -> None:
    """The model errors are there with the statuses and contexts of §12.2."""
    table = {name: row for name, row in rows("12.2").items() if name in FAILURES and name not in OF_THE_SDK}
    assert len(table) == 31
    for name, [told, *_] in table.items():
        failure = FAILURES[name]
        [item] = json.loads(failure.body)["detail"]
        assert item["type"] == name
        assert item["url"] == f"https://docs.fal.ai/errors#{name}"
        keys = set(re.findall("`([^`]+)`", told))
        assert failure.status == int(told[:3] if told[:3].isdecimal() else 422)
        assert told == "same" or bool(keys) == ("ctx" in item)
        assert told == "same" or item.get("ctx", {}).keys() <= keys


@pytest.mark.parametrize("name", OF_THE_SDK)
def test_model_errors_of_the_sdk(name: str) -> None:
    """What fal's SDK makes of an app's exception is a 422 for a field, without a URL (§12.2)."""
    assert name in rows("12.2")
    [item] = json.loads(FAILURES[name].body)["detail"]
    assert (FAILURES[name].status, item["type"], item["loc"]) == (422, name, ["body", "prompt"])
    assert item.keys() == {"loc", "msg", "type"}


@pytest.mark.parametrize("retry_after", [None, "2", HTTP_DATE])
def test_a_storm_of_429(emulator: Emulator, retry_after: str | None) -> None:
    """Of many requests at once exactly `times` fail, with a Retry-After if one was asked for."""
    emulator.will("fail", kind="concurrent_requests_limit", operation="run", times=7, retry_after=retry_after)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: emulator.run("emulator/echo"), range(24)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 7
    assert {answer.headers.get("retry-after") for answer in refused} == {retry_after}
    assert {answer.status_code for answer in answers if answer not in refused} == {200}


@pytest.mark.parametrize(
    "operation", ["run", "stream", "submit", "status", "result", "cancel", "upload_initiate", "download"]
)
def test_edge_pages_everywhere(emulator: Emulator, operation: str) -> None:
    """The proxy's pages, of each status, come for any operation, and without a request id (§12.4)."""
    url = emulator.upload(b"x")
    submitted = emulator.submit("emulator/echo").json()
    method, path = {
        "run": ("POST", "/run/emulator/echo"),
        "stream": ("POST", "/run/emulator/echo/stream"),
        "submit": ("POST", "/queue/emulator/echo"),
        "status": ("GET", submitted["status_url"]),
        "result": ("GET", submitted["response_url"]),
        "cancel": ("PUT", submitted["cancel_url"]),
        "upload_initiate": ("POST", "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"),
        "download": ("GET", url),
    }[operation]
    for status, title in EDGE_STATUSES.items():
        emulator.will("edge_page", status=status, operation=operation)
        answer = emulator.http.request(method, path)
        assert answer.status_code == status
        assert dict(answer.headers) == {
            "content-type": "text/html",
            "content-length": str(len(answer.content)),
        }
        assert f"<h1>{status} {title}</h1>" in answer.text
        assert "nginx" in answer.text
