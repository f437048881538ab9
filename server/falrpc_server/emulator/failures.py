"""Every failure that fal is known to answer with, by name: exact status, headers and body (§2.3, §12).

Pure data, for models and scenarios.
"""

from collections.abc import Mapping
from typing import Any

from falrpc_server.emulator.answers import Answer, detail, json_answer

__all__ = ["EDGE_STATUSES", "ERRORS_URL", "FAILURES", "REQUEST_ERRORS", "edge_page", "request_error"]

REQUEST_ERRORS: dict[str, tuple[int, str]] = {
    "request_timeout": (504, "Request timed out"),
    "startup_timeout": (504, "Runner did not start in time"),
    "runner_scheduling_failure": (503, "Failed to schedule a runner"),
    "runner_connection_timeout": (503, "Connecting to the runner timed out"),
    "runner_disconnected": (503, "Runner disconnected"),
    "runner_connection_refused": (503, "Runner refused the connection"),
    "runner_connection_error": (503, "Connection to the runner failed"),
    "runner_incomplete_response": (502, "Runner's response was incomplete"),
    "runner_server_error": (500, "Runner failed"),
    "internal_error": (500, "Internal error"),
    "client_disconnected": (499, "Client disconnected"),
    "client_cancelled": (499, "Request was cancelled"),
    "bad_request": (400, "Bad request"),
    "concurrent_requests_limit": (429, "Too many concurrent requests"),
}
"""The types of §12.1."""

_NEEDS_RETRY = frozenset({429, 500, 502, 503, 504})


def request_error(error_type: str, text: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """A request error of §12.1: the type in body and header."""
    status, standard = REQUEST_ERRORS[error_type]
    hint = {"x-fal-needs-retry": "1"} if status in _NEEDS_RETRY else {}
    return json_answer(
        {"detail": text or standard, "error_type": error_type},
        status,
        {"x-fal-error-type": error_type, **hint, **(headers or {})},
    )


EDGE_STATUSES = {
    413: "Request Entity Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}


def edge_page(status: int) -> Answer:
    """A page of the proxy in front of fal: HTML that names nginx, sent without a request id (§12.4)."""
    title = f"{status} {EDGE_STATUSES[status]}"
    head = f"<head><title>{title}</title></head>"
    page = f"<html>{head}<body><center><h1>{title}</h1></center><hr><center>nginx</center></body></html>"
    return Answer(status, page.encode(), {"content-type": "text/html"})


ERRORS_URL = "https://docs.fal.ai/errors#"

# The model errors of §12.2: what the message says, the context, and the status where it isn't 422.
_SUPPORTED = {"supported_extensions": [".zip", ".tar.gz"]}
_MODEL_ERRORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "internal_server_error": ("Internal server error", {}, 500),
    "generation_timeout": ("Generation timed out", {}, 504),
    "downstream_service_error": ("A service behind this model refused the request", {}, 400),
    "downstream_service_unavailable": ("A service behind this model is unavailable", {}, 500),
    "content_policy_violation": ("The content could not be processed because of its content policy", {}, 422),
    "no_media_generated": ("No media was generated", {}, 422),
    "image_too_small": ("Image is too small", {"min_height": 512, "min_width": 512}, 422),
    "image_too_large": ("Image is too large", {"max_height": 4096, "max_width": 4096}, 422),
    "image_load_error": ("Failed to load the image", {}, 422),
    "file_download_error": ("Failed to download the file", {}, 422),
    "face_detection_error": ("No face was detected", {}, 422),
    "file_too_large": ("File is too large", {"max_size": 10_485_760}, 422),
    "greater_than": ("Input should be greater than 0", {"gt": 0}, 422),
    "greater_than_equal": ("Input should be greater than or equal to 1", {"ge": 1}, 422),
    "less_than": ("Input should be less than 9", {"lt": 9}, 422),
    "less_than_equal": ("Input should be less than or equal to 8", {"le": 8}, 422),
    "multiple_of": ("Input should be a multiple of 8", {"multiple_of": 8}, 422),
    "sequence_too_short": ("Sequence is too short", {"min_length": 1}, 422),
    "sequence_too_long": ("Sequence is too long", {"max_length": 4}, 422),
    "one_of": ("Input should be one of the allowed values", {"expected": ["a", "b"]}, 422),
    "feature_not_supported": ("Feature is not supported", {}, 422),
    "invalid_archive": ("Archive can't be read", _SUPPORTED, 422),
    "archive_file_count_below_minimum": (
        "Archive has too few files",
        {"min_count": 4, "provided_count": 1, **_SUPPORTED},
        422,
    ),
    "archive_file_count_exceeds_maximum": (
        "Archive has too many files",
        {"max_count": 100, "provided_count": 120, **_SUPPORTED},
        422,
    ),
    "audio_duration_too_long": ("Audio is too long", {"max_duration": 60, "provided_duration": 75.5}, 422),
    "audio_duration_too_short": ("Audio is too short", {"min_duration": 1, "provided_duration": 0.5}, 422),
    "video_duration_too_long": ("Video is too long", {"max_duration": 60, "provided_duration": 75.5}, 422),
    "video_duration_too_short": ("Video is too short", {"min_duration": 1, "provided_duration": 0.5}, 422),
    "unsupported_audio_format": ("Unsupported audio format", {"supported_formats": ["wav", "mp3"]}, 422),
    "unsupported_image_format": ("Unsupported image format", {"supported_formats": ["png", "jpeg"]}, 422),
    "unsupported_video_format": ("Unsupported video format", {"supported_formats": ["mp4", "webm"]}, 422),
}


def _model_error(kind: str) -> Answer:
    message, context, status = _MODEL_ERRORS[kind]
    item: dict[str, Any] = {"loc": ["body", "prompt"], "msg": message, "type": kind, "url": ERRORS_URL + kind}
    if context:
        item["ctx"] = context
    headers = {"x-fal-needs-retry": "1"} if status >= 500 else {}
    return json_answer({"detail": [item | {"input": "a cat"}]}, status, headers)


def _old_item(kind: str, message: str, context: dict[str, Any] | None = None) -> dict[str, Any]:
    item = {"loc": ["body", "num_images"], "msg": message, "type": kind}
    return item | {"ctx": context} if context else item


_UNBILLED = {"x-fal-billable-units": "0"}

FAILURES: dict[str, Answer] = {
    # §2.3: credentials
    "unknown_key": detail(401, "No user found for Key ID and Secret"),
    "invalid_key": detail(401, "invalid key credentials"),
    "malformed_key": detail(
        401, "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
    ),
    "no_credentials": detail(401, "Authentication is required to access this application"),
    "exhausted_balance": detail(
        403, "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
    ),
    "forbidden": detail(403, "Forbidden"),
    # §12.1: request errors
    **{name: request_error(name) for name in REQUEST_ERRORS},
    "user_start_timeout": request_error(
        "startup_timeout",
        "Request timed out",
        {"x-fal-request-timeout-type": "user", "x-fal-needs-retry": "0"},
    ),
    "error_type_in_header_only": Answer(503, b"", {"x-fal-error-type": "runner_disconnected"}),
    # §12.2: model errors
    **{name: _model_error(name) for name in _MODEL_ERRORS},
    "value_error": json_answer(
        {"detail": [{"loc": ["body", "prompt"], "msg": "Prompt is not good", "type": "value_error"}]}, 422
    ),
    "input_value_error": json_answer(
        {"detail": [{"loc": ["body", "prompt"], "msg": "Prompt is not good", "type": "input_value_error"}]},
        422,
    ),
    "pydantic_1": json_answer(
        {
            "detail": [
                _old_item("value_error.missing", "field required"),
                _old_item(
                    "value_error.number.not_le",
                    "ensure this value is less than or equal to 8",
                    {"limit_value": 8},
                ),
                _old_item("type_error.integer", "value is not a valid integer"),
            ]
        },
        422,
        _UNBILLED,
    ),
    "pydantic_2": json_answer(
        {
            "detail": [
                {
                    "type": "missing",
                    "loc": ["body", "prompt"],
                    "msg": "Field required",
                    "input": {"seed": 1},
                    "url": "https://errors.pydantic.dev/2.11/v/missing",
                },
                {
                    "type": "int_parsing",
                    "loc": ["body", "loras", 0, "seed"],
                    "msg": "Input should be a valid integer, unable to parse string as an integer",
                    "input": "one",
                },
            ]
        },
        422,
        _UNBILLED,
    ),
    # §12.3: the app framework
    "unknown_path": detail(404, "Path /x not found", _UNBILLED),
    "unknown_app": detail(404, "Application 'nobody/nothing' not found"),
    "app_error": detail(400, "The app says no"),
    "unhandled_exception": detail(500, "Internal Server Error"),
    "worth_another_try": detail(500, "Try again", {"x-fal-needs-retry": "true"}),
    "worth_another_try_older_header": detail(500, "Try again", {"x-fal-retryable": "true"}),
    "gpu_error": detail(503, "GPU error"),
    "cuda_out_of_memory": detail(503, "CUDA error: out of memory"),
    "upload_policy_failed": detail(424, "Failed to upload the output"),
    # §7.2, §7.3, §7.6, §7.7: the queue
    "queue_too_long": detail(429, "Queue is too long", {"x-fal-needs-retry": "1"}),
    "unknown_request": json_answer({"status": "NOT_FOUND"}, 404),
    "already_completed": json_answer({"status": "ALREADY_COMPLETED"}, 400),
    "still_in_progress": detail(400, "Request is still in progress"),
    # §12.4: other shapes that have been seen
    "detail_object": json_answer({"detail": {"code": 7, "reason": "odd"}}, 400),
    "message": json_answer({"message": "Something is wrong"}, 500),
    "error": json_answer({"error": "Something is wrong"}, 500),
    "errors_list": json_answer(
        {"detail": "Invalid input", "errors": [{"field": "prompt", "message": "is too short"}]}, 400
    ),
    "request_id_in_body": json_answer({"detail": "Internal error", "request_id": "abc"}, 500),
    "retry_after_in_body": json_answer({"detail": "Slow down", "retry_after": 60}, 429),
    "empty_body": Answer(500, b"", {}),
    "arbitrary_bytes": Answer(500, bytes(range(256)), {"content-type": "application/octet-stream"}),
    "invalid_utf8": Answer(500, b'{"detail":"\xff\xfe"}', {"content-type": "application/json"}),
    "broken_json": Answer(500, b'{"detail":', {"content-type": "application/json"}),
}
"""Answers by the name of the failure."""
