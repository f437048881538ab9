"""A gRPC server with TLS that wants a bearer token, and then serves nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import trustme

__all__ = ["TOKEN", "strict_service"]

TOKEN = "let-me-in"


@contextmanager
def strict_service(certificate: trustme.LeafCert) -> Iterator[int]:
    """Serves on a port of localhost, which it yields."""
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[_Refusing()])
        port = server.add_secure_port("localhost:0", credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


class _Refusing(grpc.GenericRpcHandler):
    """Answers every call, of whatever kind, with a status."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        is_let_in = metadata.get("authorization") == f"Bearer {TOKEN}"

        def refuse(requests: Any, context: grpc.ServicerContext) -> Any:
            if is_let_in:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "let in, but nothing is served here")
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")

        return grpc.stream_stream_rpc_method_handler(refuse)
