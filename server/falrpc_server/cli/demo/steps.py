"""What the demo does through the generated stub, and the check of every answer."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from falrpc import v1
from falrpc_server.cli import errors, outputs, printing
from falrpc_server.cli.demo import picture
from falrpc_server.cli.demo.account import Account, StepFailed
from falrpc_server.cli.downloads import fetch

__all__ = [
    "Demo",
    "download_sticker",
    "explain_a_failure",
    "follow_the_queue",
    "read_by_handle",
    "remove_background",
    "stream_the_workflow",
    "upload_photo",
]

_CHUNK_BYTES = 64 * 1024
_SEED = "15860307465884635512"  # above 2^53: who makes it a double loses its last digits
_SDXL = "fal-ai/fast-sdxl"
_STICKER = "workflows/fal-ai/sdxl-sticker"


@dataclass(frozen=True)
class Demo:
    """What every step needs."""

    stub: v1.FalServiceStub
    account: Account
    directory: Path
    live: bool

    @property
    def call_seconds_max(self) -> float:
        """The deadline of every call."""
        return 300.0 if self.live else 30.0


def upload_photo(demo: Demo) -> str:
    """Uploads a picture and returns its URL."""
    photo = demo.directory / "photo.png"
    photo.write_bytes(picture.photo_png())
    content = photo.read_bytes()
    digest = hashlib.sha256(content).digest()

    def parts() -> Iterator[v1.UploadRequest]:
        header = v1.UploadHeader(file_name="photo.png", size=len(content), sha256=digest)
        yield v1.UploadRequest(header=header)
        for start in range(0, len(content), _CHUNK_BYTES):
            yield v1.UploadRequest(chunk=content[start : start + _CHUNK_BYTES])

    demo.account.tell("sending", f"{photo}, {picture.describe_picture(photo)}, {len(content):,} bytes")
    answer = demo.stub.Upload(parts(), timeout=demo.call_seconds_max)
    _check(answer.sha256 == digest, "the service stored other bytes than were sent")
    _check(answer.content_type == "image/png", f"the media type became {answer.content_type!r}")
    demo.account.tell("url", answer.url)
    return answer.url


def remove_background(demo: Demo, photo_url: str) -> None:
    """Runs a model on the uploaded picture."""
    request = v1.RunRequest(
        endpoint_id="fal-ai/imageutils/rembg",
        input=v1.Input(json=f'{{"image_url": "{photo_url}"}}'),
    )
    answer = demo.stub.Run(request, timeout=demo.call_seconds_max)
    _check(bool(answer.call.request_id), "the answer has no request id")
    demo.account.tell("call", printing.call_sentence(answer.call))
    path = demo.directory / "photo-without-background.png"
    _download(demo, answer.output, path)


def follow_the_queue(demo: Demo) -> tuple[v1.RequestHandle, str]:
    """Submits a request and follows it to its result; returns its handle and its output."""
    submitted = demo.stub.Submit(
        v1.SubmitRequest(
            endpoint_id=_SDXL,
            input=v1.Input(json=f'{{"prompt": "a lighthouse in a storm", "seed": {_SEED}}}'),
        ),
        timeout=demo.call_seconds_max,
    )
    handle = submitted.handle
    demo.account.tell("submitted", printing.handle_words(handle))
    request = v1.SubscribeRequest(attach=handle, include_logs=True)
    positions: set[int] = set()
    log_entries, last, result = 0, v1.RequestStatus(), v1.ResultResponse()
    for message in demo.stub.Subscribe(request, timeout=demo.call_seconds_max):
        match message.WhichOneof("kind"):
            case "status":
                last = message.status
                if last.HasField("queue_position"):
                    positions.add(last.queue_position)
                demo.account.tell("status", printing.status_sentence(last))
            case "logs":
                log_entries += len(message.logs.entries)
                for line in printing.log_lines(message.logs):
                    demo.account.tell("log", line)
            case "result":
                result = message.result
                demo.account.tell("output", printing.one_line(result.output))
    _check(last.state == v1.RequestState.REQUEST_STATE_COMPLETED, "the last status is not COMPLETED")
    _check(last.outcome == v1.RequestOutcome.REQUEST_OUTCOME_SUCCEEDED, "the outcome is not SUCCEEDED")
    _check(bool(result.output.json), "the stream ended without a result")
    if not demo.live:  # fal itself may start at once, log nothing and leave out the seed
        _check(_SEED in result.output.json, f"the seed {_SEED} is not what came back")
        _check(bool(positions), "no queue position was seen")
        _check(log_entries > 0, "no log entry was seen")
    return handle, result.output.json


def read_by_handle(demo: Demo, handle: v1.RequestHandle, output_json: str) -> None:
    """Reads the same request again by its handle, as another process could."""
    status = demo.stub.Status(v1.StatusRequest(handle=handle), timeout=demo.call_seconds_max).status
    demo.account.tell("Status", printing.status_sentence(status))
    _check(status.state == v1.RequestState.REQUEST_STATE_COMPLETED, "the status is not COMPLETED")
    result = demo.stub.Result(v1.ResultRequest(handle=handle), timeout=demo.call_seconds_max)
    _check(result.output.json == output_json, "Result returned another output than Subscribe")
    demo.account.tell("Result", "the same output, byte for byte")


def stream_the_workflow(demo: Demo) -> v1.Output:
    """Streams the sticker workflow and returns its output."""
    request = v1.StreamWorkflowRequest(
        endpoint_id=_STICKER,
        input=v1.Input(json=f'{{"prompt": "a happy robot", "seed": {_SEED}}}'),
    )
    kinds: list[str] = []
    output = v1.Output()
    for message in demo.stub.StreamWorkflow(request, timeout=demo.call_seconds_max):
        kind = message.WhichOneof("kind") or "unknown"
        if kind == "heartbeat":
            continue
        kinds.append(kind)
        demo.account.tell(kind, printing.workflow_words(message))
        if kind == "output":
            output = message.output.output
    _check(kinds[:1] == ["started"], f"the first event is {kinds[:1]}, not `started`")
    _check(kinds[-1:] == ["output"], f"the last event is {kinds[-1:]}, not `output`")
    _check(demo.live or _SEED in output.json, f"the seed {_SEED} is not what came back")
    _check("submit" in kinds and "completion" in kinds, "no step was submitted and completed")
    return output


def explain_a_failure(demo: Demo) -> None:
    """Makes a call that must fail and reads why."""
    request = v1.RunRequest(endpoint_id=_SDXL, input=v1.Input(json='{"num_images": 99}'))
    demo.account.tell("input", request.input.json)
    try:
        demo.stub.Run(request, timeout=demo.call_seconds_max)
    except grpc.RpcError as error:
        failure = errors.read_failure(cast(grpc.Call, error), "the gateway")
    else:
        raise StepFailed("a call without a prompt and with 99 images went well")
    for line in errors.failure_lines(failure):
        demo.account.tell("", line)
    _check(failure.code == "INVALID_ARGUMENT", f"the code is {failure.code}, not INVALID_ARGUMENT")
    _check(bool(failure.reason and failure.domain), "the status has no ErrorInfo")
    fields = {violation.field for violation in failure.violations}
    missing = {"input.prompt", "input.num_images"} - fields
    _check(not missing, f"no field violation for {' and '.join(sorted(missing))}, only {sorted(fields)}")


def download_sticker(demo: Demo, output: v1.Output) -> Path:
    """Downloads the workflow's picture and checks that it is a sticker; returns its path."""
    path = demo.directory / "sticker.png"
    _download(demo, output, path)
    share = picture.transparent_share(path)
    _check(share > 0, f"{path} has an alpha channel, but nothing in it is transparent")
    demo.account.tell("transparent", f"{share:.0%} of it")
    return path


def _download(demo: Demo, output: v1.Output, path: Path) -> None:
    files = outputs.files_in(output.json)
    _check(bool(files), f"the output names no file: {printing.one_line(output)[:300]}")
    with path.open("wb") as file:
        fetch(files[0].url, file)
    demo.account.tell("saved", f"{path}, {picture.describe_picture(path)}")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)
