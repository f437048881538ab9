"""A FalService that ends and answers calls as a test says, and keeps what it was sent.

It knows nothing of the gateway; it is for what the gateway can't be made to do on demand.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from falrpc import v1

HANDLE = v1.RequestHandle(endpoint_id="a/b", request_id="r1", ownership_token="t1")


class ScriptedService(v1.FalServiceServicer):
    """An endpoint `fail/CODE` ends the call with that code and the details of the gateway's kind."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.received: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.output = v1.Output(json="{}")

    def _enter(self, method: str, request: Message, endpoint_id: str, context: grpc.ServicerContext) -> None:
        self.calls[method] += 1
        self.received.append(request)
        self.metadata = dict(context.invocation_metadata())
        if endpoint_id.startswith("fail/"):
            fail(context, endpoint_id.removeprefix("fail/"))
        if endpoint_id == "sleep/forever":
            self._wait(context)

    def _wait(self, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    def Run(self, request: v1.RunRequest, context: grpc.ServicerContext) -> v1.RunResponse:
        self._enter("Run", request, request.endpoint_id, context)
        return v1.RunResponse(output=self.output, call=v1.CallInfo(request_id="r1", billable_units="2.5"))

    def Submit(self, request: v1.SubmitRequest, context: grpc.ServicerContext) -> v1.SubmitResponse:
        self._enter("Submit", request, request.endpoint_id, context)
        return v1.SubmitResponse(handle=HANDLE, queue_position=3)

    def Status(self, request: v1.StatusRequest, context: grpc.ServicerContext) -> v1.StatusResponse:
        self._enter("Status", request, request.handle.endpoint_id, context)
        return v1.StatusResponse()

    def Result(self, request: v1.ResultRequest, context: grpc.ServicerContext) -> v1.ResultResponse:
        self._enter("Result", request, request.handle.endpoint_id, context)
        return v1.ResultResponse(output=self.output)

    def Cancel(self, request: v1.CancelRequest, context: grpc.ServicerContext) -> v1.CancelResponse:
        self._enter("Cancel", request, request.handle.endpoint_id, context)
        return v1.CancelResponse(outcome=v1.CancelOutcome.CANCEL_OUTCOME_OK)

    def Subscribe(
        self, request: v1.SubscribeRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.SubscribeResponse]:
        yield v1.SubscribeResponse(accepted=HANDLE)
        yield v1.SubscribeResponse(heartbeat=v1.Heartbeat())
        self._enter("Subscribe", request, request.submit.endpoint_id, context)
        yield v1.SubscribeResponse(result=v1.ResultResponse(output=self.output))

    def Upload(
        self, request_iterator: Iterator[v1.UploadRequest], context: grpc.ServicerContext
    ) -> v1.UploadResponse:
        self.received.extend(request_iterator)
        return v1.UploadResponse(url="https://cdn/x", size=5)


def fail(context: grpc.ServicerContext, code: str) -> NoReturn:
    """Ends a call as the gateway does."""
    info = error_details_pb2.ErrorInfo(reason="A_REASON", domain="falrpc", metadata={"delivery": "REJECTED"})
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message="why", details=[detail])
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returned")


@contextmanager
def running(service: ScriptedService) -> Iterator[str]:
    """Runs the service on loopback and yields its address."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
    v1.add_FalServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)
