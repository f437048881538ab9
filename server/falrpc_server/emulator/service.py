"""fal's hosts: which request is which, who may call, and what each is answered.

It knows models, queue and storage; how bytes come and go is server.py's affair.
"""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from falrpc_server.emulator import inputs
from falrpc_server.emulator.answers import (
    Answer,
    AppError,
    EventStream,
    detail,
    json_answer,
    unknown_path,
)
from falrpc_server.emulator.picture_models import PICTURE_MODELS
from falrpc_server.emulator.queue import Queue, QueueRequest, StartTimeout
from falrpc_server.emulator.scripted_models import SCRIPTED_MODELS
from falrpc_server.emulator.storage import Storage
from falrpc_server.emulator.work import Downloads, Model, Work
from falrpc_server.emulator.workflow_models import WORKFLOW_MODELS

__all__ = ["MODELS", "Incoming", "Service", "Target"]

MODELS: dict[str, Model] = {
    model.endpoint_id: model for model in (*PICTURE_MODELS, *WORKFLOW_MODELS, *SCRIPTED_MODELS)
}
HOSTS = {
    "fal.run": "run",
    "queue.fal.run": "queue",
    "rest.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "v3b.fal.media": "cdn",
}
NAMESPACES = ("workflows", "comfy")

_KEY = re.compile(r"Key ([^\s:]+):([^\s:]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is: one of fal's operations on an endpoint, a queue request or a file."""

    operation: str
    endpoint: str = ""
    request_id: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A whole request."""

    target: Target
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes


def target_of(method: str, path: str, host: str) -> Target:
    """Tells what a request is. One port serves all hosts: by name, or by the path's first part (§1)."""
    role = HOSTS.get(host.partition(":")[0])
    if role is None:
        role, _, path = path.lstrip("/").partition("/")
    path = path.strip("/")
    targets = _targets(role, path)
    if method in targets:
        return targets[method]
    is_known = any(t.endpoint in MODELS or t.request_id or t.path for t in targets.values())
    return Target("wrong_method" if is_known else "unknown", path=path)


def _targets(role: str, path: str) -> dict[str, Target]:
    """What a path means for each method that it has; nothing when there is no such path."""
    match role:
        case "run" if path.endswith("/stream"):
            return {"POST": Target("stream", path.removesuffix("/stream"))}
        case "run":
            return {"POST": Target("run", path)}
        case "queue":
            return _queue_targets(path)
        case "rest" if path == "storage/upload/initiate":
            return {"POST": Target("upload_initiate", path=path)}
        case "cdn":
            return {"PUT": Target("upload_put", path=path), "GET": Target("download", path=path)}
    return {}


def _queue_targets(path: str) -> dict[str, Target]:
    """Queue URLs: with or without the endpoint's path, a trailing slash, `/response` (§3.2)."""
    endpoint, found, rest = path.partition("/requests/")
    if not found:
        return {"POST": Target("submit", path)}
    request_id, _, tail = rest.partition("/")
    match tail:
        case "" | "response":
            return {"GET": Target("result", endpoint, request_id)}
        case "status":
            return {"GET": Target("status", endpoint, request_id)}
        case "status/stream":
            return {"GET": Target("status_stream", endpoint, request_id)}
        case "cancel":
            return {"PUT": Target("cancel", endpoint, request_id)}
    return {}


class Service:
    """fal, as far as it is emulated."""

    def __init__(self, speed: float, keepalive_seconds: float, key: str | None) -> None:
        self.base_url = ""
        """Our own base URL, known once the server listens."""
        self.storage = Storage()
        self._downloads = Downloads()
        self._speed = speed
        self._key = key
        self._pictures = ThreadPoolExecutor(max_workers=2, thread_name_prefix="pictures")
        self.queue = Queue(self._perform, speed, keepalive_seconds)

    async def close(self) -> None:
        """Ends everything that still runs."""
        await self.queue.close()
        await self._downloads.close()
        self._pictures.shutdown(wait=False, cancel_futures=True)

    async def answer(self, incoming: Incoming) -> Answer | EventStream:
        """Answers a request."""
        try:
            return await self._dispatch(incoming)
        except AppError as error:
            return error.answer

    async def _dispatch(self, incoming: Incoming) -> Answer | EventStream:
        target, storage = incoming.target, self.storage
        match target.operation:
            case "upload_put":
                return storage.put(target.path, incoming.query, incoming.headers, incoming.body)
            case "download":
                return storage.get(target.path)
            case "wrong_method":
                return detail(405, "Method Not Allowed")
            case "unknown":
                return detail(404, "Not Found")
        if refusal := self._refusal(incoming.headers.get("authorization")):
            return refusal
        match target.operation:
            case "run":
                return await self._run(incoming)
            case "stream":
                return await self._stream(incoming)
            case "submit":
                model = self._model(target.endpoint)
                base_url = f"{self.base_url}/queue/{_queue_base(target.endpoint)}"
                return self.queue.submit(model, base_url, incoming.body, incoming.headers, incoming.query)
            case "upload_initiate":
                return storage.initiate(incoming.query, incoming.body)
        return self._queue_request(incoming)

    def _queue_request(self, incoming: Incoming) -> Answer | EventStream:
        target = incoming.target
        request = self.queue.get(target.request_id)
        if request is None or _queue_base(request.model.endpoint_id) != _queue_base(target.endpoint):
            return json_answer({"status": "NOT_FOUND"}, 404)
        with_logs = incoming.query.get("logs", "0").lower() in ("1", "true")
        match target.operation:
            case "status":
                status = 200 if request.state == "COMPLETED" else 202
                return json_answer(request.status(list(request.logs) if with_logs else None), status)
            case "status_stream":
                return EventStream(self.queue.events(request, with_logs))
            case "cancel":
                return self.queue.cancel(request)
        return self.queue.result(request)

    async def _run(self, incoming: Incoming) -> Answer:
        StartTimeout.read(incoming.headers)
        model = self._model(incoming.target.endpoint)
        return await model.run(self._work(model, incoming.body))

    async def _stream(self, incoming: Incoming) -> Answer | EventStream:
        StartTimeout.read(incoming.headers)
        model = self._model(incoming.target.endpoint)
        if model.answers_stream:
            return await model.run(self._work(model, incoming.body))
        if model.stream is None:
            return unknown_path("/stream")
        pieces = model.stream(self._work(model, incoming.body))
        return EventStream(pieces, {"x-fal-billable-units": "1"})

    async def _perform(self, request: QueueRequest) -> Answer:
        work = self._work(request.model, request.body)
        work.log, work.cancelled = request.log, request.cancelled
        return await request.model.run(work)

    def _work(self, model: Model, body: bytes) -> Work:
        given = inputs.read(body, model.fields)
        new_id = lambda: str(uuid.uuid4())  # noqa: E731 # it is data here
        return Work(given, self.storage, self._downloads, self._speed, self._pictures, new_id)

    def _model(self, endpoint: str) -> Model:
        model = MODELS.get(endpoint)
        if model is None:
            base = _queue_base(endpoint)
            if any(_queue_base(known) == base for known in MODELS) and base != endpoint:
                raise AppError(unknown_path(endpoint.removeprefix(base)))
            raise AppError(detail(404, f"Application {endpoint!r} not found"))
        return model

    def _refusal(self, authorization: str | None) -> Answer | None:
        """The credential failures of §2.3."""
        if authorization is None:
            return detail(401, "Authentication is required to access this application")
        match = _KEY.fullmatch(authorization)
        if match is None:
            expected = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
            return detail(401, expected)
        if self._key is not None and f"{match[1]}:{match[2]}" != self._key:
            return detail(401, "No user found for Key ID and Secret")
        if match[1] == "locked":
            text = (
                "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
            )
            return detail(403, text)
        return None


def _queue_base(endpoint: str) -> str:
    """Owner and alias, with the namespace (§3.2)."""
    parts = endpoint.split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])
