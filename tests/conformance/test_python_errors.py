"""What fal's Python client makes of fal's errors (§6.6, §12)."""

import asyncio
from typing import Any

import fal_client
import pytest
from tests.conformance.clients import KINDS, Calling
from tests.conformance.redirect import Redirect
from tests.emulator.running import Emulator

SOON = {"interval": 0.01}

REQUEST_ERRORS = [  # §12.1
    ("request_timeout", 504),
    ("startup_timeout", 504),
    ("runner_scheduling_failure", 503),
    ("runner_connection_timeout", 503),
    ("runner_disconnected", 503),
    ("runner_connection_refused", 503),
    ("runner_connection_error", 503),
    ("runner_incomplete_response", 502),
    ("runner_server_error", 500),
    ("internal_error", 500),
    ("client_disconnected", 499),
    ("client_cancelled", 499),
    ("bad_request", 400),
]
MODEL_ERRORS = [  # §12.2: with their status and the members of ctx
    ("internal_server_error", 500, set()),
    ("generation_timeout", 504, set()),
    ("downstream_service_error", 400, set()),
    ("downstream_service_unavailable", 500, set()),
    ("content_policy_violation", 422, set()),
    ("no_media_generated", 422, set()),
    ("image_too_small", 422, {"min_height", "min_width"}),
    ("image_too_large", 422, {"max_height", "max_width"}),
    ("image_load_error", 422, set()),
    ("file_download_error", 422, set()),
    ("face_detection_error", 422, set()),
    ("file_too_large", 422, {"max_size"}),
    ("greater_than", 422, {"gt"}),
    ("greater_than_equal", 422, {"ge"}),
    ("less_than", 422, {"lt"}),
    ("less_than_equal", 422, {"le"}),
    ("multiple_of", 422, {"multiple_of"}),
    ("sequence_too_short", 422, {"min_length"}),
    ("sequence_too_long", 422, {"max_length"}),
    ("one_of", 422, {"expected"}),
    ("feature_not_supported", 422, set()),
    ("invalid_archive", 422, {"supported_extensions"}),
    ("archive_file_count_below_minimum", 422, {"min_count", "provided_count", "supported_extensions"}),
    ("archive_file_count_exceeds_maximum", 422, {"max_count", "provided_count", "supported_extensions"}),
    ("audio_duration_too_long", 422, {"max_duration", "provided_duration"}),
    ("audio_duration_too_short", 422, {"min_duration", "provided_duration"}),
    ("video_duration_too_long", 422, {"max_duration", "provided_duration"}),
    ("video_duration_too_short", 422, {"min_duration", "provided_duration"}),
    ("unsupported_audio_format", 422, {"supported_formats"}),
    ("unsupported_image_format", 422, {"supported_formats"}),
    ("unsupported_video_format", 422, {"supported_formats"}),
]
FRAMEWORK_ERRORS = [  # §12.3, §12.4: the failure's name, its status and message
    ("unhandled_exception", 500, "Internal Server Error"),
    ("gpu_error", 503, "GPU error"),
    ("cuda_out_of_memory", 503, "CUDA error: out of memory"),
    ("upload_policy_failed", 424, None),
    ("unknown_path", 404, "Path /x not found"),
    ("detail_object", 400, {"code": 7, "reason": "odd"}),
    ("empty_body", 500, ""),
    ("broken_json", 500, '{"detail":'),
    ("message", 500, '{"message":"Something is wrong"}'),
]


def _failure(call: Any, *given: Any, **named: Any) -> fal_client.FalClientHTTPError:
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        call(*given, **named)
    error: fal_client.FalClientHTTPError = caught.value
    assert error.status_code == error.response.status_code
    assert error.response_headers == dict(error.response.headers)
    return error


def test_rejected_input(client: Calling) -> None:
    """The queue takes an input that the model rejects when it runs: 422 at the result, a list of details (§7.2)."""
    handle = client.submit("fal-ai/flux/dev", {"seed": "seven"})
    error = _failure(handle.get, **SOON)
    assert (error.status_code, error.error_type) == (422, None)
    assert sorted((item["type"], item["loc"]) for item in error.message) == [
        ("int_type", ["body", "seed"]),
        ("missing", ["body", "prompt"]),
    ]
    assert error.response_headers["x-fal-billable-units"] == "0"
    assert error.response_headers["x-fal-request-id"] == handle.request_id
    assert handle.status() == client.status("fal-ai/flux/dev", handle.request_id)
    assert handle.status().error


@pytest.mark.parametrize(("kind", "status", "context"), MODEL_ERRORS)
def test_model_errors(client: Calling, emulator: Emulator, kind: str, status: int, context: set[str]) -> None:
    """A model's error arrives as it is, from run() and as the queue's stored result."""
    emulator.will("fail", operation="work", kind=kind, times=None)
    handle = client.submit("emulator/echo", {})
    for error in (_failure(handle.get, **SOON), _failure(client.run, "emulator/echo", {})):
        (item,) = error.message
        assert (error.status_code, error.error_type, item["type"]) == (status, None, kind)
        assert item["loc"][0] == "body"
        assert item["msg"]
        assert item["url"] == f"https://docs.fal.ai/errors#{kind}"
        assert set(item.get("ctx", {})) == context
        assert "x-fal-request-id" in error.response_headers


@pytest.mark.parametrize(("error_type", "status"), REQUEST_ERRORS)
def test_request_errors(client: Calling, error_type: str, status: int) -> None:
    """A request error has its type in body and header, and the queue's status tells it, too."""
    given = {"error_type": error_type, "seconds": 0}
    handle = client.submit("emulator/fail", given)
    for error in (_failure(handle.get, **SOON), _failure(client.run, "emulator/fail", given)):
        assert (error.status_code, error.error_type) == (status, error_type)
        assert error.response_headers["x-fal-error-type"] == error_type
        assert error.message == error.response.json()["detail"]
        assert "x-fal-request-id" in error.response_headers
    completed = handle.status()
    assert (completed.error_type, bool(completed.error)) == (error_type, True)


@pytest.mark.parametrize(("kind", "status", "message"), FRAMEWORK_ERRORS)
def test_framework_errors(client: Calling, emulator: Emulator, kind: str, status: int, message: Any) -> None:
    """What an app's framework answers arrives as it is; without a detail the message is the whole text."""
    emulator.will("fail", operation="work", kind=kind, times=None)
    handle = client.submit("emulator/echo", {})
    for error in (_failure(handle.get, **SOON), _failure(client.run, "emulator/echo", {})):
        assert (error.status_code, error.error_type) == (status, None)
        assert message is None or error.message == message


def test_error_type_in_the_header_only(client: Calling, emulator: Emulator) -> None:
    """Without a type in the body the client takes the one in the header (§6.6)."""
    emulator.will("fail", operation="work", kind="error_type_in_header_only")
    error = _failure(client.run, "emulator/echo", {})
    assert (error.status_code, error.error_type, error.message) == (503, "runner_disconnected", "")


def test_app_error(client: Calling) -> None:
    """An app that fails without a word is fal's plain 500 (§12.3)."""
    error = _failure(client.run, "emulator/fail", {"seconds": 0})
    assert (error.status_code, error.message, error.error_type) == (500, "Internal Server Error", None)


def test_concurrency_limit(client: Calling, emulator: Emulator, short_sleeps: None) -> None:
    """Over the limit run() is refused with 429, ten times, while the queue waits (§6.3)."""
    emulator.will("concurrency_limit", limit=0)
    error = _failure(client.run, "emulator/echo", {})
    assert (error.status_code, error.error_type) == (429, "concurrent_requests_limit")
    assert error.response_headers["x-fal-needs-retry"] == "1"
    assert len(emulator.ended(operation="run")) == 10
    handle = client.submit("emulator/echo", {"a": 1})
    assert isinstance(handle.status(), fal_client.Queued)
    emulator.http.delete("/_emulator/scenarios").raise_for_status()
    assert handle.get(**SOON) == {"a": 1}


@pytest.mark.parametrize("call", ["run", "submit"])
def test_unknown_app(client: Calling, call: str) -> None:
    """An app that doesn't exist is a 404, at submit already (§7.2)."""
    error = _failure(getattr(client, call), "nobody/nothing", {})
    assert (error.status_code, error.error_type) == (404, None)
    assert error.message == "Application 'nobody/nothing' not found"


@pytest.mark.parametrize("call", ["run", "subscribe"])
def test_unknown_path(client: Calling, call: str) -> None:
    """A path that an app doesn't have is a 404 of the app (§12.3), in the queue of its result (§7.2)."""
    error = _failure(getattr(client, call), "fal-ai/flux/nothing", {})
    assert (error.status_code, error.message) == (404, "Path /nothing not found")


def test_wrong_method(client: Calling) -> None:
    """A method that a model doesn't have is a 405."""
    error = _failure(client.run, "emulator/echo", {}, method="DELETE")
    assert (error.status_code, error.message) == (405, "Method Not Allowed")


@pytest.mark.parametrize("call", ["run", "submit"])
def test_bad_timeout(client: Calling, call: str) -> None:
    """A start timeout that is no number is a 400 (§4)."""
    headers = {"X-Fal-Request-Start-Timeout": "soon"}
    error = _failure(getattr(client, call), "emulator/echo", {}, headers=headers)
    assert (error.status_code, error.error_type) == (400, "bad_request")


@pytest.mark.parametrize(
    ("key", "status", "text"),
    [
        pytest.param("no-colon", 401, "Invalid Key Authorization header format", id="malformed"),
        pytest.param("locked:secret", 403, "Exhausted balance", id="locked"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_refused_keys(
    redirect: Redirect,
    emulator: Emulator,
    runner: asyncio.Runner,
    kind: str,
    key: str,
    status: int,
    text: str,
) -> None:
    """A key that fal refuses is 401, that of a locked account 403, and nothing is queued (§2.3)."""
    queued = emulator.http.get("/_emulator/requests").json()
    client = Calling.client(kind, runner, key)
    for call in (client.run, client.submit):
        error = _failure(call, "emulator/echo", {})
        assert (error.status_code, error.error_type) == (status, None)
        assert text in error.message
    client.close()
    assert emulator.http.get("/_emulator/requests").json() == queued


def test_unknown_key(client: Calling, emulator: Emulator) -> None:
    """A key that nobody has is a 401 (§2.3)."""
    emulator.will("fail", operation="run", kind="unknown_key")
    error = _failure(client.run, "emulator/echo", {})
    assert (error.status_code, error.message) == (401, "No user found for Key ID and Secret")
