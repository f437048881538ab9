"""`falrpc demo`: a whole installation on loopback doing real work, and a check of every answer."""

from falrpc_server.cli.demo.run import run_demo

__all__ = ["run_demo"]
