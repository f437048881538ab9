"""A real HTTP server that behaves like fal, for tests and demonstrations without a key or spend.

It imports nothing from the rest of falrpc_server, so that service and emulator can't share a mistake.
"""

from falrpc_server.emulator.admin import catalogue
from falrpc_server.emulator.application import Application, Options
from falrpc_server.emulator.server import Listening, Urls, serve

__all__ = ["Application", "Listening", "Options", "Urls", "catalogue", "serve"]
