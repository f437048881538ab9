"""What a call asks for, held against what its caller may do.

Each function raises Refusal or UploadTooLarge, or lends the call the account that pays: without one nothing
is sent to fal.
"""

import dataclasses

from falrpc_server.fal_http.models import RequestRef, Upload
from falrpc_server.fal_http.upload_errors import UploadTooLarge
from falrpc_server.interceptors.call import Call
from falrpc_server.translate import requests

__all__ = ["paid_call", "request", "submission", "subscription", "upload", "upload_bytes_max"]


def paid_call(asked: requests.PaidCall, call: Call, prefix: str = "") -> requests.PaidCall:
    """The call with the options that its caller's policy has for it.

    Args:
        asked: What the caller asks for.
        call: The caller's call.
        prefix: Of the names of the request's fields.
    """
    caller = call.permitted
    account = caller.spend_on(asked.endpoint)
    options = caller.grant.call_options(asked.options, prefix)
    attachments = tuple(_attachment(attachment, call, prefix) for attachment in asked.attachments)
    call.scope.account, call.endpoint = account, asked.endpoint
    return dataclasses.replace(asked, options=options, attachments=attachments)


def _attachment(asked: requests.Attachment, call: Call, prefix: str) -> requests.Attachment:
    caller = call.permitted
    bytes_max = caller.tenant.upload_bytes_max
    if bytes_max is not None and len(asked.data) > bytes_max:
        raise UploadTooLarge(bytes_max, is_declared=True)
    described = caller.grant.upload(asked.upload, f"{prefix}attachments[{asked.name!r}].")
    return dataclasses.replace(asked, upload=described)


def submission(asked: requests.SubmitCall, call: Call, prefix: str = "") -> requests.SubmitCall:
    """The same of a submission."""
    queue = call.permitted.grant.queue_options(asked.queue, prefix)
    return requests.SubmitCall(paid_call(asked.call, call, prefix), queue)


def request(ref: RequestRef, call: Call) -> RequestRef:
    """The request, when it is one of the caller's."""
    call.scope.account, call.endpoint = call.permitted.spend_on_request(ref), ref.endpoint
    return ref


def subscription(asked: requests.SubscribeCall, call: Call) -> requests.SubscribeCall:
    """The subscription, whether it submits a request or attaches to one."""
    if isinstance(asked.target, RequestRef):
        request(asked.target, call)
        if asked.cancels_when_abandoned:  # what the method Cancel does
            call.permitted.grant.check_rpc("Cancel")
        return asked
    call.is_about(asked.target.call.endpoint.full)
    return dataclasses.replace(asked, target=submission(asked.target, call, "submit."))


def upload(asked: Upload, call: Call) -> Upload:
    """The file as its caller's policy has it."""
    described = call.permitted.grant.upload(asked)
    call.scope.account = call.permitted.account
    return described


def upload_bytes_max(server_bytes_max: int, call: Call) -> int:
    """The largest file of the call: the server's limit, or its tenant's."""
    return min(server_bytes_max, call.permitted.tenant.upload_bytes_max or server_bytes_max)
