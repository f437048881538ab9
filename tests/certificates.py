"""Certificates for tests: an authority that signs whatever names it is told, sound or not."""

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates. `pem` is its own."""

    def __init__(self, workload: tuple[bytes, bytes] | None = None) -> None:
        """Takes the key and certificate of a workload, which may not sign others, and does so all the same."""
        self._chain = b""
        if workload:
            private, self._chain = workload
            key = serialization.load_pem_private_key(private, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key, self._name = key, x509.load_pem_x509_certificate(self._chain).subject
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.pem = self._sign(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=None)])

    def issue(
        self,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        emails: Sequence[str] = (),
        common_names: Sequence[str] = (),
        is_authority: bool = False,
        ends: datetime.timedelta = DAY,
    ) -> tuple[bytes, bytes]:
        """A private key and its certificate, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme, Inc.")
        subject = [organization, *(x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names)]
        names: list[x509.GeneralName] = [
            *(x509.UniformResourceIdentifier(name) for name in uris),
            *(x509.DNSName(name) for name in dns),
            *(x509.IPAddress(ipaddress.ip_address(name)) for name in ips),
            *(x509.RFC822Name(name) for name in emails),
        ]
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=is_authority, path_length=None)]
        if names:
            extensions.append(x509.SubjectAlternativeName(names))
        certificate = self._sign(x509.Name(subject), key, extensions, ends)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, certificate + self._chain

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: Sequence[x509.ExtensionType],
        ends: datetime.timedelta = DAY,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
