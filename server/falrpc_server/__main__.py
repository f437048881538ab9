"""`python -m falrpc_server` is `falrpc`."""

from falrpc_server.cli import main

if __name__ == "__main__":
    main()
