"""Where a server is reached. Pure."""

import pytest

from falrpc_server.cli.channels import is_loopback, loopback_address


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        (":50051", "127.0.0.1:50051"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("10.1.2.3:50051", "10.1.2.3:50051"),
        ("unix:/run/falrpc.sock", "unix:/run/falrpc.sock"),
    ],
)
def test_loopback_address(listen: str, reached: str) -> None:
    """A server that listens on every interface is asked on loopback, any other where it listens."""
    assert loopback_address(listen) == reached


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("fal.run", False), ("", False), (None, False)],
)
def test_is_loopback(host: str | None, loopback: bool) -> None:
    """Only this machine is loopback; names are not looked up."""
    assert is_loopback(host) is loopback
