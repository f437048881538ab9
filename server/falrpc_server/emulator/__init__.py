"""A real HTTP server that behaves like fal, for tests and demonstrations without a key or spend.

It imports nothing from the rest of falrpc_server, so that service and emulator can't share a mistake.
"""

from falrpc_server.emulator.server import Emulator, Options, serve

__all__ = ["Emulator", "Options", "serve"]
