"""Signatures of webhooks (docs/fal-http-api.md §11.3): who signs, and the keys that verifiers fetch."""

import base64
import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from falrpc_server.emulator.answers import Answer, json_answer
from falrpc_server.emulator.ids import Ids

__all__ = ["Signer"]


class Signer:
    """fal's signing keys. With a seed for `ids` they are the same in every run.

    Two keys are public and the second signs: a signature names no key, so verifiers must try all (§11.3),
    and one that tries only the first must fail here rather than on the day when fal changes keys.
    """

    def __init__(self, ids: Ids) -> None:
        self._unused = Ed25519PrivateKey.from_private_bytes(ids.bytes(32))
        self._key = Ed25519PrivateKey.from_private_bytes(ids.bytes(32))

    def jwks(self) -> Answer:
        """What `/.well-known/jwks.json` on the rest host answers (§11.3)."""
        keys = [
            {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.public_key().public_bytes_raw())}
            for key in (self._unused, self._key)
        ]
        return json_answer({"keys": keys})

    def headers(self, request_id: str, user_id: str, body: bytes, now: float | None = None) -> dict[str, str]:
        """The four headers of a webhook (§11.3).

        Args:
            request_id: The id given at submit, as in the body.
            user_id: Whose request it is.
            body: The bytes that are sent.
            now: Unix seconds, by default the real time: verifiers compare it with their own clocks.
        """
        timestamp = str(int(time.time() if now is None else now))
        message = "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": self._key.sign(message.encode()).hex(),
        }


def _base64url(data: bytes) -> str:
    """RFC 7517's base64url, which has no padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
