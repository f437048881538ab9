"""Values to HTTP request parts. Pure: it sends nothing.

It knows fal's hosts, URLs and headers (docs/fal-http-api.md §1 to §10), and nothing of transports, retries
or callers. What comes back is answers.py's affair.
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from falrpc_server.fal_http.models import CallOptions, EndpointId, QueueOptions, RequestRef

__all__ = [
    "Hosts",
    "Request",
    "cancel",
    "result",
    "run",
    "status",
    "status_stream",
    "stream",
    "submit",
]

START_TIMEOUT_SECONDS_MIN = 1.0  # both of fal's clients refuse less, §4

_Headers = tuple[tuple[str, str], ...]

_JSON = ("Content-Type", "application/json")
_ACCEPT_JSON = (("Accept", "application/json"),)
_ACCEPT_EVENTS = (("Accept", "text/event-stream"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True)
class Hosts:
    """fal's hosts (§1).

    Attributes:
        run, queue, rest: Base URLs without a trailing slash.
        run_backup, queue_backup: Those that stand in when no connection can be made; empty for none.
        cdn: Where whole files go with a CDN token.
        uploads: The hosts that may be sent bytes of uploads.
    """

    run: str = "https://fal.run"
    queue: str = "https://queue.fal.run"
    rest: str = "https://rest.fal.ai"
    cdn: str = "https://v3.fal.media"
    run_backup: str = ""
    queue_backup: str = ""
    uploads: tuple[str, ...] = ("fal.media",)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, complete but for the credential.

    `backup_url` is where it may go when no connection to the URL's host can be made; empty for nowhere.
    """

    method: str
    url: str
    headers: _Headers = ()
    body: bytes | None = None
    backup_url: str = ""


def run(hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions) -> Request:
    """A synchronous run (§6.1)."""
    headers = (_JSON, ("Accept", "*/*"), *_option_headers(options))
    return _to_run(hosts, f"/{endpoint.full}", headers, body)


def stream(hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions) -> Request:
    """A model's or workflow's stream (§8.1, §9)."""
    headers = (_JSON, *_ACCEPT_EVENTS, *_option_headers(options))
    return _to_run(hosts, f"/{endpoint.full}/stream", headers, body)


def submit(
    hosts: Hosts, endpoint: EndpointId, body: bytes, options: CallOptions, queue: QueueOptions
) -> Request:
    """A submission to the queue (§7.2)."""
    headers: _Headers = (_JSON, ("Accept", "application/json"), *_option_headers(options))
    if queue.low_priority:
        headers += (("X-Fal-Queue-Priority", "low"),)
    if queue.no_retry:
        headers += (("X-Fal-No-Retry", "1"),)
    query = {}
    if queue.webhook_url:
        query["fal_webhook"] = queue.webhook_url
    if queue.max_queue_length is not None:
        query["fal_max_queue_length"] = str(queue.max_queue_length)
    return _to_queue(
        hosts, "POST", f"/{endpoint.full}{'?' if query else ''}{urlencode(query)}", headers, body
    )


def status(hosts: Hosts, ref: RequestRef, *, logs: bool) -> Request:
    """One look at a queue request (§7.3)."""
    return _to_queue(hosts, "GET", f"{_request_path(ref)}/status{'?logs=1' if logs else ''}", _ACCEPT_JSON)


def status_stream(hosts: Hosts, ref: RequestRef, *, logs: bool) -> Request:
    """The status stream of a queue request (§7.5)."""
    path = f"{_request_path(ref)}/status/stream{'?logs=1' if logs else ''}"
    return _to_queue(hosts, "GET", path, _ACCEPT_EVENTS)


def result(hosts: Hosts, ref: RequestRef) -> Request:
    """The outcome of a queue request (§7.6)."""
    return _to_queue(hosts, "GET", _request_path(ref), (("Accept", "*/*"),))


def cancel(hosts: Hosts, ref: RequestRef) -> Request:
    """The cancellation of a queue request (§7.7)."""
    return _to_queue(hosts, "PUT", f"{_request_path(ref)}/cancel", _ACCEPT_JSON, b"")


def _to_run(hosts: Hosts, path: str, headers: _Headers, body: bytes) -> Request:
    backup = hosts.run_backup and hosts.run_backup + path
    return Request("POST", hosts.run + path, headers, body, backup)


def _to_queue(hosts: Hosts, method: str, path: str, headers: _Headers, body: bytes | None = None) -> Request:
    backup = hosts.queue_backup and hosts.queue_backup + path
    return Request(method, hosts.queue + path, headers, body, backup)


def _request_path(ref: RequestRef) -> str:
    """Owner and alias only, with the namespace: a path would be refused (§3.2)."""
    return f"/{ref.endpoint.queue_base}/requests/{ref.request_id}"


def _option_headers(options: CallOptions) -> _Headers:
    headers: list[tuple[str, str]] = []
    if options.start_timeout_seconds is not None:
        seconds = f"{max(options.start_timeout_seconds, START_TIMEOUT_SECONDS_MIN):.3f}".rstrip("0").rstrip(
            "."
        )
        # Older fronts know the second name only; the first one wins where both are known (§4).
        headers += [("X-Fal-Request-Start-Timeout", seconds), ("X-Fal-Request-Timeout", seconds)]
    if options.runner_hint:
        headers.append(("X-Fal-Runner-Hint", options.runner_hint))
    if options.disable_fallback:
        headers.append(("x-app-fal-disable-fallback", "1"))
    if options.store_io is not None:
        headers.append(("X-Fal-Store-IO", "1" if options.store_io else "0"))
    if options.output_lifecycle_json:
        headers.append(("X-Fal-Object-Lifecycle-Preference", options.output_lifecycle_json))
    if options.tags:
        headers.append(("X-Fal-Tags", ",".join(f"{k}={v}" for k, v in sorted(options.tags.items()))))
    return tuple(headers)
