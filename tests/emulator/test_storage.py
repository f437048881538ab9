"""Uploads, downloads, and files from elsewhere (§10.6)."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from tests.emulator.running import NOBODY, Emulator

from falrpc_server.emulator import storage
from falrpc_server.emulator.storage import Storage

LIMIT = 64 * 1024 * 1024
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


class Files(http.server.BaseHTTPRequestHandler):
    """A host of files: a picture, a failure, and more than the emulator reads."""

    def do_GET(self) -> None:
        body = b"\0" * (LIMIT + 1) if self.path == "/large" else PIXEL
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("content-type", "image/png")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The URL of another host's files."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.png", "a b (1).png", "ü/../é?#%.png", "..", "", "x" * 200])
def test_upload_and_download(emulator: Emulator, name: str) -> None:
    """What was uploaded is downloaded, whatever the file's name is."""
    url = emulator.upload(PIXEL, name=name)
    answer = emulator.http.get(url)
    assert (answer.content, answer.headers["content-type"]) == (PIXEL, "image/png")


def test_escapes_in_a_url_may_differ(emulator: Emulator) -> None:
    """Clients that escape more or less of a path reach the same file."""
    urls = emulator.initiate(name="a (1).png")
    spelt = urls["upload_url"].replace("%28", "(").replace("%29", ")")
    assert emulator.http.put(spelt, content=PIXEL, headers={"content-type": "image/png"}).status_code == 200
    assert emulator.http.get(urls["file_url"]).content == PIXEL


def test_an_upload_url_works_once_and_for_its_file(emulator: Emulator) -> None:
    """The signature must be there, belong to the path, and be fresh."""
    one, two = emulator.initiate(), emulator.initiate()
    signature = two["upload_url"].partition("?")[2]
    headers = {"content-type": "image/png"}
    for url in (one["file_url"], f"{one['file_url']}?signature=x", f"{one['file_url']}?{signature}"):
        assert emulator.http.put(url, content=b"x", headers=headers).status_code == 403
    assert emulator.http.get(one["file_url"]).status_code == 404
    assert emulator.http.put(one["upload_url"], content=b"x", headers=headers).status_code == 200
    assert emulator.http.put(one["upload_url"], content=b"x", headers=headers).status_code == 403


def test_an_upload_needs_its_type_and_a_length(emulator: Emulator) -> None:
    """Another content type is refused, and so is a body of unknown length."""
    url = emulator.initiate()["upload_url"]
    assert emulator.http.put(url, content=b"x", headers={"content-type": "text/plain"}).status_code == 403
    assert emulator.http.put(url, content=b"x").status_code == 403
    chunked = emulator.http.put(url, content=iter([b"x"]), headers={"content-type": "image/png"})
    assert chunked.status_code == 411


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("storage_type=gcs", "{}", 400),
        ("", "{}", 400),
        ("storage_type=fal-cdn-v3", "[]", 422),
        ("storage_type=fal-cdn-v3", "{", 422),
        ("storage_type=fal-cdn-v3", "\ud800", 422),
        ("storage_type=fal-cdn-v3", '{"file_name":"\\ud800","content_type":3}', 200),
    ],
)
def test_initiate(emulator: Emulator, query: str, body: str, status: int) -> None:
    """An upload starts with a JSON object and fal's CDN as the place."""
    content = body.encode("utf-8", "surrogatepass")
    assert emulator.http.post(f"/rest/storage/upload/initiate?{query}", content=content).status_code == status


def test_a_file_from_elsewhere(emulator: Emulator, elsewhere: str) -> None:
    """A model reads its input from any host, and asks no proxy of the environment."""
    given = {"image_url": f"{elsewhere}/a.png", "upscale_factor": 1}
    for _ in range(2):
        assert emulator.run("fal-ai/esrgan", given).json()["image"]["width"] == 1


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("{elsewhere}/broken", id="status 500"),
        pytest.param("{elsewhere}/large", id="over the limit"),
        pytest.param("{own}/cdn/files/b/none/a.png", id="not in the storage"),
        pytest.param(f"{NOBODY}/a.png", id="nobody there"),
        pytest.param("data:image/png;base64,???", id="bad base64"),
        *[
            "",
            "/a.png",
            "ftp://a/b",
            "http://",
            "http://[::1",
            "http://a:99999/",
            "http://\0/",
            "http://x../",
        ],
    ],
)
def test_files_that_cannot_be_had(emulator: Emulator, elsewhere: str, url: str) -> None:
    """An input file that can't be read, or is too large, is file_download_error."""
    given = {"image_url": url.format(elsewhere=elsewhere, own=emulator.url)}
    answer = emulator.run("fal-ai/esrgan", given)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "file_download_error")


def test_the_oldest_files_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage keeps as many bytes as it may, the newest ones."""
    monkeypatch.setattr(storage, "FILES_BYTES_MAX", 100)
    files = Storage()
    files.base = "http://emulator/cdn"
    urls = [files.add("a", "text/plain", bytes(40)) for _ in range(3)]
    assert [files.by_url(url) is not None for url in urls] == [False, True, True]
