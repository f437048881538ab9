"""The files of the listener's certificate, checked. It knows nothing of grpc."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from falrpc_server.config import ConfigError, Settings
from falrpc_server.reloading import Files

__all__ = ["TlsFiles", "read"]

RSA_BITS_MIN = 2_048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a listener needs for TLS, in PEM: a key, a certificate and its chain, clients' authorities."""

    key: bytes
    chain: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        return "TlsFiles(…)"


def read(settings: Settings, files: Files, now: datetime | None = None) -> TlsFiles:
    """Reads and checks the files. Raises ConfigError with everything that is wrong with them."""
    now = now or datetime.now(UTC)
    problems: list[str] = []
    contents: dict[str, bytes] = {}
    for name in ("tls_certificate_file", "tls_key_file", "tls_client_ca_file"):
        if path := getattr(settings, name):
            try:
                contents[name] = files.bytes(path)
            except ConfigError as error:
                problems += [f"FALRPC_{name.upper()}: {problem}" for problem in error.problems]
    chain = _certificates("tls_certificate_file", settings, contents, problems, now)
    key = _public_key(settings, contents, problems)
    if chain and key and chain[0] != key:
        problems.append(
            f"FALRPC_TLS_KEY_FILE: {settings.tls_key_file}: is not the key of {settings.tls_certificate_file}"
        )
    if settings.tls_client_ca_file:
        _certificates("tls_client_ca_file", settings, contents, problems, now)
    if problems:
        raise ConfigError(problems)
    return TlsFiles(
        contents["tls_key_file"], contents["tls_certificate_file"], contents.get("tls_client_ca_file")
    )


def _certificates(
    name: str, settings: Settings, contents: dict[str, bytes], problems: list[str], now: datetime
) -> Sequence[bytes]:
    """The public keys of the certificates in a file."""
    if name not in contents:
        return ()
    where = f"FALRPC_{name.upper()}: {getattr(settings, name)}"
    try:
        found = x509.load_pem_x509_certificates(contents[name])
        outdated = [_time_problem(certificate, now) for certificate in found]
        keys = [_spki(certificate.public_key()) for certificate in found]
    except (ValueError, UnsupportedAlgorithm):
        problems.append(f"{where}: has no certificate in PEM, or one of a kind that is not known here")
        return ()
    # The first one is the listener's. Of authorities one that counts is enough: others may be going out.
    asked = outdated[:1] if name == "tls_certificate_file" else outdated
    if all(asked):
        problems.append(f"{where}: {asked[0]}")
    return keys


def _time_problem(certificate: x509.Certificate, now: datetime) -> str:
    subject = certificate.subject.rfc4514_string()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        return f"{subject} has expired, {end:%Y-%m-%d %H:%M} UTC"
    return f"{subject} is not valid before {begin:%Y-%m-%d %H:%M} UTC" if begin > now else ""


def _public_key(settings: Settings, contents: dict[str, bytes], problems: list[str]) -> bytes:
    """The public half of the key."""
    if "tls_key_file" not in contents:
        return b""
    try:
        key = load_pem_private_key(contents["tls_key_file"], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the second is for a key with a password
        problems.append(
            f"FALRPC_TLS_KEY_FILE: {settings.tls_key_file}: has no private key in PEM without a password"
        )
        return b""
    is_rsa = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS_MIN
    if not is_rsa and not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES)):
        problems.append(
            f"FALRPC_TLS_KEY_FILE: {settings.tls_key_file}: must be RSA with {RSA_BITS_MIN} bits or more, "
            "or one of P-256, P-384 or P-521: grpc serves no others"
        )
    return _spki(key.public_key())


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
