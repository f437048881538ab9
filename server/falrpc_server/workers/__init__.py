"""Several processes that serve one port: their supervisor, and a worker's end of the line to it.

Nothing here imports grpc, which must not be loaded where processes are started from, nor an HTTP engine.
"""
