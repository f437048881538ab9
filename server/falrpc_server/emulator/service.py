"""fal: who may call, and what each request is answered. How bytes come and go is application.py's affair."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from falrpc_server.emulator import faults, scenarios
from falrpc_server.emulator.answers import (
    EVENTS,
    Answer,
    AppError,
    EventStream,
    detail,
    json_answer,
    unknown_path,
)
from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.failures import FAILURES, request_error
from falrpc_server.emulator.files.storage import Lifecycle, Storage
from falrpc_server.emulator.files.uploads import Uploads
from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.keys import Keys
from falrpc_server.emulator.models import inputs
from falrpc_server.emulator.models.registry import MODELS
from falrpc_server.emulator.models.work import Downloads, Model, Work
from falrpc_server.emulator.queue import Queue
from falrpc_server.emulator.queue_requests import QueueRequest, start_timeout
from falrpc_server.emulator.routes import Incoming, queue_base
from falrpc_server.emulator.scenarios import WORK
from falrpc_server.emulator.scenarios_in_place import Scenarios
from falrpc_server.emulator.signing import Signer
from falrpc_server.emulator.slots import Slots
from falrpc_server.emulator.webhooks import Webhooks

__all__ = ["Options", "Service"]

WITHOUT_KEY = ("upload_put", "upload_part", "upload_complete", "download")  # signed or public URLs
WITH_CDN_TOKEN = ("cdn_upload", "cdn_multipart", "cdn_part", "cdn_complete", "cdn_sign")
WITH_KEY = ("upload_token", "upload_initiate", "upload_initiate_multipart")
OUTPUT_LIFECYCLE = "x-fal-object-lifecycle-preference"


@dataclass(frozen=True, slots=True)
class Options:
    """How the emulator behaves.

    Attributes:
        speed: Durations are divided by it.
        seed: Makes ids the same in every run; None makes them random.
        keepalive_seconds: Interval of comments on status streams (§7.5), in real seconds.
        key: The only key that is accepted; None accepts any that is well-formed.
        gcs_uploads: Whether uploads of the older storage type are taken (§10.5).
        drop_private_webhooks: Whether webhooks to private and loopback addresses are dropped, as fal does.
    """

    speed: float = 1.0
    seed: int | None = None
    keepalive_seconds: float = 15.0
    key: str | None = None
    gcs_uploads: bool = False
    drop_private_webhooks: bool = False


class Service:
    """fal, as far as it is emulated."""

    def __init__(self, options: Options, scenarios: Scenarios, mistake: Callable[[], None]) -> None:
        self.clock = Clock(options.speed)
        self.ids = Ids(options.seed)
        self.slots = Slots(scenarios)
        self._scenarios = scenarios
        self._keys = Keys(options.key)
        self._signer = Signer(self.ids)
        self._storage = Storage(self.clock, self.ids)
        self._uploads = Uploads(self._storage, self.clock, self.ids, self._keys, gcs=options.gcs_uploads)
        self._downloads = Downloads()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="models")
        self.webhooks = Webhooks(
            self.clock, self._signer, allow_loopback=not options.drop_private_webhooks, mistake=mistake
        )
        self.queue = Queue(
            self._perform,
            mistake,
            self.clock,
            self.ids,
            self.slots,
            self.webhooks,
            options.keepalive_seconds,
        )

    async def close(self) -> None:
        """Ends everything that still runs."""
        await self.queue.close()
        await self.webhooks.close()
        await self._downloads.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, incoming: Incoming, own: Scenarios) -> Answer | EventStream:
        """Answers a request. `own` are the scenarios that it brought along."""
        try:
            return await self._dispatch(incoming, own)
        except AppError as error:
            return error.answer

    async def _dispatch(self, incoming: Incoming, own: Scenarios) -> Answer | EventStream:
        operation = incoming.target.operation
        match operation:
            case "jwks":
                return self._signer.jwks()
            case "wrong_method":
                if incoming.target.endpoint and not incoming.target.request_id:
                    self._model(incoming.target.endpoint)
                return detail(405, "Method Not Allowed")
            case "unknown":
                return detail(404, "Not Found")
        if operation in WITHOUT_KEY or operation in WITH_CDN_TOKEN:
            return self._uploads.answer(incoming, "")
        user = self._keys.user(incoming.headers.get("authorization"))
        if operation in WITH_KEY:
            return self._uploads.answer(incoming, user)
        match operation:
            case "run":
                return await self._run(incoming, user, own)
            case "stream":
                return await self._stream(incoming, user, own)
            case "submit":
                return self._submit(incoming, user, own)
        return self._queue_request(incoming)

    def _submit(self, incoming: Incoming, user: str, own: Scenarios) -> Answer:
        endpoint = incoming.target.endpoint
        request = QueueRequest(
            self.ids.uuid(),
            self._model(endpoint),
            f"{incoming.bases.queue}/{queue_base(endpoint)}",
            incoming,
            user,
            own,
            start_timeout(incoming.headers),
        )
        delay = own.take_queue_delay(endpoint) or self._scenarios.take_queue_delay(endpoint)
        return self.queue.submit(request, delay)

    def _queue_request(self, incoming: Incoming) -> Answer | EventStream:
        target = incoming.target
        request = self.queue.get(target.request_id)
        if request is None or queue_base(request.model.endpoint_id) != queue_base(target.endpoint):
            return FAILURES["unknown_request"]
        with_logs = incoming.query.get("logs", "0").lower() in ("1", "true")
        match target.operation:
            case "status":
                status = 200 if request.state == "COMPLETED" else 202
                return json_answer(request.status(list(request.logs) if with_logs else None), status)
            case "status_stream":
                return EventStream(self.queue.events(request, with_logs))
            case "cancel":
                return self.queue.cancel(request)
        return FAILURES["still_in_progress"] if request.answer is None else request.answer

    async def _run(self, incoming: Incoming, user: str, own: Scenarios) -> Answer:
        start_timeout(incoming.headers)
        model = self._model(incoming.target.endpoint)
        self._refuse_when_full(model)
        with self.slots.taken(model.endpoint_id):
            if answer := await self._scripted(model, own):
                return answer
            return await model.run(self._work(model, incoming, user))

    async def _stream(self, incoming: Incoming, user: str, own: Scenarios) -> Answer | EventStream:
        start_timeout(incoming.headers)
        model = self._model(incoming.target.endpoint)
        self._refuse_when_full(model)
        with contextlib.ExitStack() as slot:
            slot.enter_context(self.slots.taken(model.endpoint_id))
            if answer := await self._scripted(model, own):
                return answer
            if model.answers_stream:
                return await model.run(self._work(model, incoming, user))
            if model.stream is None:
                return unknown_path("/stream")
            pieces = model.stream(self._work(model, incoming, user))
            return EventStream(
                pieces,
                {**EVENTS, "x-fal-billable-units": str(model.billable_units)},
                ended=slot.pop_all().close,
            )

    async def _perform(self, request: QueueRequest) -> Answer:
        if answer := await self._scripted(request.model, request.scenarios):
            return answer
        work = self._work(request.model, request.incoming, request.user)
        work.log, work.cancelled = request.log, request.cancelled
        return await request.model.run(work)

    async def _scripted(self, model: Model, own: Scenarios) -> Answer | None:
        """What a scenario makes of a model's run, None when it may go on."""
        scenario = own.take(WORK, model.endpoint_id) or self._scenarios.take(WORK, model.endpoint_id)
        match scenario:
            case scenarios.Hang():
                await asyncio.Event().wait()
            case scenarios.Slow():
                await asyncio.sleep(scenario.seconds)
        return faults.instead(scenario)

    def _refuse_when_full(self, model: Model) -> None:
        """Over the limit, a synchronous request is refused (§6.3)."""
        if self.slots.is_full(model.endpoint_id):
            raise AppError(request_error("concurrent_requests_limit"))

    def _work(self, model: Model, incoming: Incoming, user: str) -> Work:
        return Work(
            inputs.read(incoming.body, model.fields),
            model.seconds,
            self._storage,
            incoming.bases.cdn,
            Lifecycle.read({name: v for name, v in incoming.headers.items() if name == OUTPUT_LIFECYCLE}),
            user,
            self._downloads,
            self.clock,
            self.ids,
            self._threads,
        )

    def _model(self, endpoint: str) -> Model:
        """The model at an endpoint. Raises AppError when there is no such app.

        That an app has no such path is found only when it runs (§7.2).
        """
        if model := MODELS.get(endpoint):
            return model
        base = queue_base(endpoint)
        if base == endpoint or all(queue_base(known) != base for known in MODELS):
            raise AppError(detail(404, f"Application {endpoint!r} not found"))

        async def run(_: Work) -> Answer:
            return unknown_path(endpoint.removeprefix(base))

        return Model(endpoint, "Is not there.", run, answers_stream=True)
