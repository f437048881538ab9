"""JWTs for tests: keys, JWK sets, and tokens, sound or forged."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

__all__ = ["Signer", "base64url", "joined", "jwk_set"]

_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_KINDS: dict[str, Any] = {
    "RSA": jwt.algorithms.RSAAlgorithm,
    "EC": jwt.algorithms.ECAlgorithm,
    "OKP": jwt.algorithms.OKPAlgorithm,
}


class Signer:
    """A private key that signs tokens with one algorithm."""

    def __init__(self, algorithm: str, kid: str | None = None, bits: int = 2_048) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.key: Any
        if algorithm in _CURVES:
            self.key, self._kind = ec.generate_private_key(_CURVES[algorithm]), "EC"
        elif algorithm == "EdDSA":
            self.key, self._kind = ed25519.Ed25519PrivateKey.generate(), "OKP"
        else:
            self.key, self._kind = rsa.generate_private_key(65_537, bits), "RSA"

    def jwk(self, *, private: bool = False, **others: Any) -> dict[str, Any]:
        """The key in a set; `others` are more members, or None for none of that name."""
        key = self.key if private else self.key.public_key()
        members: dict[str, Any] = _KINDS[self._kind].to_jwk(key, as_dict=True)
        members |= {"kid": self.kid, "key_ops": None, **others}
        return {name: value for name, value in members.items() if value is not None}

    @property
    def public_pem(self) -> bytes:
        """The public key as everyone may have it."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A signed token; `header` are more members of its header, or None for none of that name."""
        members = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **header}
        text = json.dumps({name: value for name, value in members.items() if value is not None})
        return self.signed(text, json.dumps(claims))

    def signed(self, header: str, payload: str | bytes) -> str:
        """A token of any header and payload, signed well."""
        payload = payload.encode() if isinstance(payload, str) else payload
        body = f"{base64url(header.encode())}.{base64url(payload)}"
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        return f"{body}.{base64url(algorithm.sign(body.encode(), self.key))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def joined(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes) -> str:
    """A token whose signature is what one says."""
    return ".".join(
        base64url(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    )


def jwk_set(*keys: Any) -> str:
    """A JWK set."""
    return json.dumps({"keys": list(keys)})
