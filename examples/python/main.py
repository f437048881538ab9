"""What a backend does with fal through falrpc: upload, run, subscribe, stream, and handle what goes wrong.

FALRPC_ADDRESS says where falrpc is (localhost:50051), FALRPC_TOKEN and FALRPC_CA_FILE how to be let in.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

import falrpc
from falrpc import v1


@dataclass
class Image:
    """An image as fal's models describe it; they may say more."""

    url: str
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Image":
        return cls(value["url"], value.get("width", 0), value.get("height", 0))


def upload(fal: v1.FalServiceStub, path: Path) -> str:
    with path.open("rb") as photo:
        uploaded = falrpc.upload(fal, v1.UploadHeader(file_name=path.name), photo, timeout=60)
    print("uploaded  ", uploaded.url)
    return uploaded.url


def cut_out(fal: v1.FalServiceStub, photo_url: str) -> None:
    request = v1.RunRequest(
        endpoint_id="fal-ai/imageutils/rembg", input=falrpc.input({"image_url": photo_url})
    )
    image = Image.of(falrpc.decode(fal.Run(request, timeout=60).output)["image"])
    print(f"cut out    {image.width}x{image.height} {image.url}")


def subscribe(fal: v1.FalServiceStub) -> None:
    prompt = {"prompt": "a lighthouse in a storm", "seed": 15860307465884635512}
    submit = v1.SubmitRequest(endpoint_id="fal-ai/fast-sdxl", input=falrpc.input(prompt))
    for message in fal.Subscribe(v1.SubscribeRequest(submit=submit, include_logs=True), timeout=300):
        match message.WhichOneof("kind"):
            case "accepted":
                print("accepted  ", message.accepted.request_id)
            case "status" if message.status.HasField("queue_position"):
                print("waiting    position", message.status.queue_position)
            case "status" if message.status.state == v1.RequestState.REQUEST_STATE_IN_PROGRESS:
                print("running")
            case "logs":
                for entry in message.logs.entries:
                    print("log       ", entry.message)
            case "result":
                output = falrpc.decode(message.result.output)
                print(f"picture    seed {output['seed']} {Image.of(output['images'][0]).url}")


def stream_workflow(fal: v1.FalServiceStub) -> None:
    request = v1.StreamWorkflowRequest(
        endpoint_id="workflows/fal-ai/sdxl-sticker", input=falrpc.input({"prompt": "a happy robot"})
    )
    for message in fal.StreamWorkflow(request, timeout=300):
        match message.WhichOneof("kind"):
            case "submit":
                print(f"step       {message.submit.node_id} {message.submit.app_id} submitted")
            case "completion":
                print(f"step       {message.completion.node_id} completed")
            case "error":
                print(f"step       {message.error.node_id} failed: {message.error.message}")
            case "output":
                print("sticker   ", Image.of(falrpc.decode(message.output.output)["image"]).url)


def refused_input(fal: v1.FalServiceStub) -> None:
    try:
        wrong = falrpc.input({"num_images": 99})
        fal.Run(v1.RunRequest(endpoint_id="fal-ai/fast-sdxl", input=wrong), timeout=60)
    except grpc.RpcError as error:
        violations = falrpc.field_violations(error)
        if not violations:
            raise
        for violation in violations:
            print(f"refused    {violation.field}: {violation.description}")


def rather_not_wait(fal: v1.FalServiceStub) -> None:
    """Submits unless more than one request waits, and takes it back."""
    request = v1.SubmitRequest(
        endpoint_id="fal-ai/fast-sdxl",
        input=falrpc.input({"prompt": "a cat"}),
        queue=v1.QueueOptions(max_queue_length=1),
    )
    try:
        handle = fal.Submit(request, timeout=60).handle
    except grpc.RpcError as error:
        wait = falrpc.retry_after(error)
        if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or wait is None:
            raise
        print(f"quota      {falrpc.reason(error)}, try again in {wait.total_seconds():g}s")
        return
    fal.Cancel(v1.CancelRequest(handle=handle), timeout=60)
    print(f"queued     {handle.request_id}, cancelled")


def work(photo: Path) -> None:
    ca_file = os.environ.get("FALRPC_CA_FILE")
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes()) if ca_file else None
    address = os.environ.get("FALRPC_ADDRESS") or "localhost:50051"
    token = os.environ.get("FALRPC_TOKEN", "")
    with falrpc.channel(address, token=token, credentials=credentials) as channel:
        fal = v1.FalServiceStub(channel)
        cut_out(fal, upload(fal, photo))
        subscribe(fal)
        stream_workflow(fal)
        refused_input(fal)
        rather_not_wait(fal)


def main() -> str | None:
    """Returns what went wrong, in one line."""
    try:
        work(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "photo.jpg"))
    except grpc.RpcError as error:
        hint = " (set FALRPC_TOKEN)" if error.code() == grpc.StatusCode.UNAUTHENTICATED else ""
        return f"falrpc: {error.code().name}: {error.details()}{hint}"
    except (OSError, ValueError) as error:
        return f"falrpc: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
