"""Signatures of webhooks, checked as a receiver would who has only §11.3 and the bytes."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from falrpc_server.emulator.ids import Ids
from falrpc_server.emulator.signing import Signer

REQUEST_ID = "7d1c2c0e-6a0b-4f6e-9b0e-0c6d0b1f2a11"
BODY = b'{"request_id":"7d1c","status":"OK","payload":{"seed":1}}'
NAMES = ("Request-Id", "User-Id", "Timestamp", "Signature")


def public_keys(jwks: bytes) -> list[Ed25519PublicKey]:
    """The keys in a JWKS."""
    keys = []
    for entry in json.loads(jwks)["keys"]:
        assert (entry["kty"], entry["crv"]) == ("OKP", "Ed25519")
        padding = "=" * (-len(entry["x"]) % 4)
        keys.append(Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(entry["x"] + padding)))
    return keys


def verifies(keys: list[Ed25519PublicKey], headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the keys signed this webhook; the age of its timestamp is not looked at."""
    request_id, user_id, timestamp, signature = (headers[f"X-Fal-Webhook-{name}"] for name in NAMES)
    assert re.fullmatch("[0-9a-f]{128}", signature)
    message = f"{request_id}\n{user_id}\n{timestamp}\n{hashlib.sha256(body).hexdigest()}".encode()
    return any(signed(key, bytes.fromhex(signature), message) for key in keys)


def signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether a signature is this key's."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_signature() -> None:
    """There are exactly the four headers, their signature verifies, and the timestamp is real time."""
    signer = Signer(Ids())
    headers = signer.headers(REQUEST_ID, "user-1", BODY)
    assert set(headers) == {f"X-Fal-Webhook-{name}" for name in NAMES}
    assert headers["X-Fal-Webhook-Request-Id"] == REQUEST_ID
    assert headers["X-Fal-Webhook-User-Id"] == "user-1"
    assert re.fullmatch("[0-9]+", headers["X-Fal-Webhook-Timestamp"])
    assert 0 <= time.time() - int(headers["X-Fal-Webhook-Timestamp"]) < 60
    assert verifies(public_keys(signer.jwks().body), headers, BODY)


def test_given_time() -> None:
    """A given time is signed in whole seconds."""
    headers = Signer(Ids()).headers(REQUEST_ID, "user-1", BODY, now=1_700_000_000.9)
    assert headers["X-Fal-Webhook-Timestamp"] == "1700000000"


@pytest.mark.parametrize("name", NAMES)
def test_changed_header(name: str) -> None:
    """With one character of any header changed, nothing verifies."""
    signer = Signer(Ids(seed=1))
    headers = signer.headers(REQUEST_ID, "user-1", BODY, now=1_700_000_000)
    value = headers[f"X-Fal-Webhook-{name}"]
    for place in range(len(value)):
        other = "0" if value[place] != "0" else "1"
        changed = {**headers, f"X-Fal-Webhook-{name}": value[:place] + other + value[place + 1 :]}
        assert not verifies(public_keys(signer.jwks().body), changed, BODY), place


def test_changed_body() -> None:
    """With one byte of the body changed, added or gone, nothing verifies."""
    signer = Signer(Ids(seed=1))
    keys, headers = public_keys(signer.jwks().body), signer.headers(REQUEST_ID, "user-1", BODY)
    assert verifies(keys, headers, BODY)
    for place in range(len(BODY)):
        assert not verifies(keys, headers, BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])
    assert not verifies(keys, headers, BODY + b"\n")
    assert not verifies(keys, headers, BODY[:-1])


def test_user_of_any_script() -> None:
    """The signed message is UTF-8."""
    signer = Signer(Ids())
    assert verifies(public_keys(signer.jwks().body), signer.headers(REQUEST_ID, "jürgen-猫", b"{}"), b"{}")


def test_jwks() -> None:
    """The JWKS is JSON of two different keys, without padding, and only the second one signs."""
    signer = Signer(Ids())
    answer = signer.jwks()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    first, second = json.loads(answer.body)["keys"]
    for entry in (first, second):
        assert re.fullmatch("[A-Za-z0-9_-]{43}", entry["x"])
    assert first["x"] != second["x"]
    headers = signer.headers(REQUEST_ID, "user-1", BODY)
    keys = public_keys(answer.body)
    assert not verifies(keys[:1], headers, BODY)
    assert verifies(keys[1:], headers, BODY)


def test_seed() -> None:
    """The keys are the same with the same seed, and others with another or none."""
    seeds = (7, 7, 8, None, None)
    one, same, *others = [Signer(Ids(seed)).jwks().body for seed in seeds]
    assert one == same
    assert len({one, *others}) == 4


def test_foreign_key() -> None:
    """Another emulator's keys verify nothing."""
    headers = Signer(Ids()).headers(REQUEST_ID, "user-1", BODY)
    assert not verifies(public_keys(Signer(Ids()).jwks().body), headers, BODY)
