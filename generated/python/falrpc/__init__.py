"""Connects Python programs to falrpc, and reads what its calls tell.

Messages and stubs are in `falrpc.v1`, generated from the contract; their comments are the manual:

    with falrpc.channel("localhost:50051") as channel:
        fal = v1.FalServiceStub(channel)
        request = v1.RunRequest(endpoint_id="fal-ai/flux/dev", input=falrpc.input({"prompt": "a cat"}))
        output = falrpc.decode(fal.Run(request, timeout=60).output)
"""

from falrpc.channels import aio_channel, channel
from falrpc.errors import field_violations, metadata, reason, retry_after, safe_to_repeat
from falrpc.values import decode, input, upload

__all__ = [
    "aio_channel",
    "channel",
    "decode",
    "field_violations",
    "input",
    "metadata",
    "reason",
    "retry_after",
    "safe_to_repeat",
    "upload",
]
