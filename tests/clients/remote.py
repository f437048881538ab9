"""A client in another language as those tests see it that play error cases."""

import re
from collections.abc import Sequence
from typing import Any

from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests.clients.calling import Caller
from tests.errors.playing import CallFailed
from tests.failures import Failure, unpacked_details

from falrpc import v1

__all__ = ["RemoteClient", "failure_in"]

GIVEN_UP = re.compile(r"max retries exhausted: failed after 3 attempts: rpc error: code = \w+ desc = ")
"""What grpc-go puts before the message of a call that it has repeated in vain."""
SERVICE = v1.fal_service_pb2.DESCRIPTOR.services_by_name["FalService"]


class RemoteClient:
    """Calls through a program of tests/clients. See tests.errors.playing.Client."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def call(self, method: str, *requests: Message) -> Sequence[Any]:
        """Makes a call. Of a failure the helper must have read what the details hold."""
        told = await self._caller.call(method, *map(json_format.MessageToDict, requests))
        if told["code"] != "OK":
            raise CallFailed(failure_in(told))
        kind = getattr(v1, SERVICE.methods_by_name[method].output_type.name)
        return [json_format.ParseDict(message, kind()) for message in told["messages"]]


def failure_in(told: dict[str, Any]) -> Failure:
    """The failure that a program tells."""
    status = status_pb2.Status()
    for detail in told["details"]:
        status.details.append(json_format.ParseDict(detail, any_pb2.Any()))
    failure = Failure(told["code"], GIVEN_UP.sub("", told["message"]), unpacked_details(status))
    _assert_that_the_helper_agrees(told, failure)
    return failure


def _assert_that_the_helper_agrees(told: dict[str, Any], failure: Failure) -> None:
    info = failure.find(error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    bad_request = failure.find(error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
    retry = failure.find(error_details_pb2.RetryInfo)
    assert told["reason"] == info.reason
    assert told["metadata"] == dict(info.metadata)
    assert told["violations"] == [
        {"field": one.field, "description": one.description, "reason": one.reason}
        for one in bad_request.field_violations
    ]
    assert told["retry_seconds"] == (None if retry is None else retry.retry_delay.ToNanoseconds() / 1e9)
    assert told["safe_to_repeat"] == (failure.code == "UNAVAILABLE" and info.reason != "")
