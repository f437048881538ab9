"""A certificate authority for one run of the emulator, trusted by nobody who isn't told to.

trustme makes it: it exists for this, and keeps up with what TLS libraries demand of certificates.
"""

import ssl

import trustme

from falrpc_server.emulator.routes import HOSTS

__all__ = ["Authority"]


class Authority:
    """Signs one certificate for all of fal's hosts and this machine."""

    def __init__(self, host: str) -> None:
        self._ca = trustme.CA(organization_name="falrpc emulator")
        self._certificate = self._ca.issue_cert(
            *HOSTS, *dict.fromkeys(("localhost", "127.0.0.1", "::1", host))
        )

    @property
    def pem(self) -> bytes:
        """The certificate that clients must trust."""
        return self._ca.cert_pem.bytes()

    def context(self) -> ssl.SSLContext:
        """What a listener needs. Writes the private key to a temporary file for a moment."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context
