"""A bare file storage as a process: it takes files and parts over HTTP and forgets their bytes.

It costs next to nothing, so that what a gateway costs can be seen beside it. Prints its port, and ends with
its input.
"""

import json
import socket
import sys
import threading

READ_BYTES = 1024 * 1024


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    threading.Thread(target=accept, args=(listener, port), daemon=True).start()
    print(port, flush=True)
    sys.stdin.read()


def accept(listener: socket.socket, port: int) -> None:
    """Serves every connection in a thread of its own."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, port), daemon=True).start()


def serve(connection: socket.socket, port: int) -> None:
    """Answers the requests of one connection, one after the other."""
    with connection, connection.makefile("rb", buffering=0) as reader:
        buffer = memoryview(bytearray(READ_BYTES))
        while line := _line(reader):
            path = line.split(" ")[1]
            length = 0
            while header := _line(reader):
                name, _, value = header.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            while length:
                length -= reader.readinto(buffer[: min(length, READ_BYTES)]) or sys.exit()
            number = path.rpartition("/")[2]
            url = f"http://127.0.0.1:{port}/files/f.bin"
            answer = {"upload_url": url, "file_url": url} if "initiate" in path else {"etag": f'"{number}"'}
            body = json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)


def _line(reader: socket.SocketIO) -> str:
    line = bytearray()
    while not line.endswith(b"\r\n"):
        byte = reader.read(1)
        if not byte:
            return ""
        line += byte
    return line.decode().rstrip()


if __name__ == "__main__":
    main()
