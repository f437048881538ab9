"""Stored files: their names, how long they live, who may read them; files from elsewhere (§10.6-10.9)."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from tests.emulator.running import NOBODY, Emulator

from falrpc_server.emulator.clock import Clock
from falrpc_server.emulator.files import storage
from falrpc_server.emulator.files.blobs import Blob
from falrpc_server.emulator.files.storage import File, Lifecycle, Storage
from falrpc_server.emulator.ids import Ids

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


def stored(**options: int) -> tuple[Storage, Clock]:
    """An empty storage with a clock that stands nearly still."""
    clock = Clock(1e-6)
    return Storage(clock, Ids(**options)), clock


def own_url(path: str) -> str:
    """A URL of a stored file."""
    return f"https://v3.fal.media/{path}"


def test_the_oldest_files_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage keeps as many bytes as it may, the newest ones."""
    monkeypatch.setattr(storage, "FILES_BYTES_MAX", 100)
    files, _ = stored()
    paths = [files.add("a", "text/plain", bytes(40)) for _ in range(3)]
    assert [files.by_url(own_url(path), "") is not None for path in paths] == [False, True, True]


def test_a_replaced_file_no_longer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored at a path again takes the room of the new bytes only."""
    monkeypatch.setattr(storage, "FILES_BYTES_MAX", 100)
    files, _ = stored()
    path = files.add("a", "text/plain", bytes(60))
    for _ in range(3):
        files.keep(path, File("a", "text/plain", Blob(bytes(40))))
    other = files.add("b", "text/plain", bytes(60))
    assert [len(files.get(each, []).body) for each in (path, other)] == [40, 60]


def test_a_seed_makes_paths_the_same() -> None:
    """Two storages with the same seed give the same paths, and another seed others."""
    one, two, three = (stored(seed=seed)[0].add("a b.png", "image/png", b"") for seed in (1, 1, 2))
    assert one == two != three
    assert one.startswith("files/b/")
    assert one.endswith("/a%20b.png")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://v3.fal.media/{path}", id="v3"),
        pytest.param("http://v3b.fal.media:80/{path}?identity=x#y", id="v3b with query"),
        pytest.param("http://127.0.0.1:9/cdn/{path}", id="below the emulator"),
    ],
)
def test_a_file_is_known_by_any_of_our_hosts(url: str) -> None:
    """A model finds a stored file by its path, whatever name of ours is in the URL."""
    files, _ = stored()
    path = files.add("a (1).png", "image/png", PIXEL)
    assert files.by_url(url.format(path=path), "") == File("a (1).png", "image/png", Blob(PIXEL))
    assert files.by_url(url.format(path="files/b/none/a.png"), "") is None


@pytest.mark.parametrize(
    ("url", "content_type", "data"),
    [
        ("data:image/png;base64,AAEC", "image/png", b"\0\1\2"),
        ("data:image/png;base64,AAE%3D", "image/png", b"\0\1"),
        ("data:text/css;charset=utf-8,a%20b", "text/css", b"a b"),
        ("data:,x", "text/plain", b"x"),
    ],
)
def test_a_data_uri_is_a_file(url: str, content_type: str, data: bytes) -> None:
    """Data URIs are read with and without base64, and are text unless they say otherwise."""
    assert stored()[0].by_url(url, "") == File("data", content_type, Blob(data))


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,???", "data:,\ud800", "data:a;base64,é", "file:///a", ""]
)
def test_what_is_no_file(url: str) -> None:
    """A broken data URI or another's URL is no file, and no exception."""
    assert stored()[0].by_url(url, "") is None


def test_a_type_that_no_header_can_hold() -> None:
    """A file whose type has line ends is still downloaded, as bytes of no known type."""
    files, _ = stored()
    answer = files.get(files.add("a", "text/plain\r\nx: y", b"x"), [])
    assert answer.headers == {"content-type": "application/octet-stream"}


async def test_a_file_expires() -> None:
    """After its lifetime a file is gone for everybody, its owner included, and for models."""
    files, clock = stored()
    path = files.add("a", "text/plain", b"x", Lifecycle(60), "me")
    kept = files.add("b", "text/plain", b"x")
    clock.advance(59)
    assert (files.get(path, []).status, files.by_url(own_url(path), "") is None) == (200, False)
    clock.advance(1)
    assert (files.get(path, ["me"]).status, files.by_url(own_url(path), "me")) == (404, None)
    assert files.get(kept, []).status == 200


RULES = (("friend", "allow"), ("foe", "hide"), ("guest", "forbid"))


@pytest.mark.parametrize(
    ("default", "users", "status"),
    [
        ("allow", [], 200),
        ("forbid", [], 403),
        ("hide", [], 404),
        ("hide", ["owner"], 200),
        ("forbid", ["stranger"], 403),
        ("forbid", ["friend"], 200),
        ("allow", ["foe"], 404),
        ("allow", ["guest"], 403),
        pytest.param("hide", ["foe", "guest"], 403, id="forbid beats hide"),
        pytest.param("hide", ["guest", "friend", "foe"], 200, id="allow beats both"),
        pytest.param("allow", ["foe", "stranger"], 200, id="the default is one identity's decision"),
        pytest.param("hide", ["foe", "owner"], 200, id="the owner among others"),
    ],
)
def test_who_may_read(default: str, users: list[str], status: int) -> None:
    """Rules and default decide, the owner may always, and of several identities the best one counts (§10.8)."""
    files, _ = stored()
    path = files.add("a", "text/plain", b"x", Lifecycle(None, default, RULES), "owner")
    assert files.get(path, users).status == status
    if len(users) < 2:
        file = files.by_url(own_url(path), "".join(users))
        assert (file is not None) == (status == 200)


def test_nobodys_file_has_no_owner() -> None:
    """An anonymous reader is not taken for the owner of a file without one."""
    files, _ = stored()
    path = files.add("a", "text/plain", b"x", Lifecycle(default="forbid"))
    assert (files.get(path, [""]).status, files.get(path, []).status) == (403, 403)


@pytest.mark.parametrize("header", ["x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"])
def test_a_lifecycle_has_two_names(header: str) -> None:
    """Both headers mean the same (§10.3)."""
    acl = {"default": "hide", "rules": [{"user": "friend", "decision": "allow"}]}
    text = json.dumps({"expiration_duration_seconds": 3600, "initial_acl": acl})
    assert Lifecycle.read({header: text}) == Lifecycle(3600.0, "hide", (("friend", "allow"),))


def test_the_shorter_name_wins() -> None:
    """With both headers, the one for uploads counts."""
    headers = {
        "x-fal-object-lifecycle-preference": '{"expiration_duration_seconds": 1}',
        "x-fal-object-lifecycle": '{"expiration_duration_seconds": 2}',
    }
    assert Lifecycle.read(headers) == Lifecycle(2.0)
    assert Lifecycle.read({}) == Lifecycle()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        *[f'{{"expiration_duration_seconds": {bad}}}' for bad in ("0", "null", "-1", '"60"', "true", "NaN")],
        f'{{"expiration_duration_seconds": 1{"0" * 400}}}',
        '{"initial_acl": 3}',
        '{"initial_acl": {"default": "maybe", "rules": 3}}',
        '{"initial_acl": {"default": ["hide"], "rules": [3, {}, {"user": 3, "decision": "hide"}]}}',
        '{"initial_acl": {"rules": [{"user": "a", "decision": "maybe"}, {"user": "", "decision": "hide"}]}}',
    ],
)
def test_a_malformed_lifecycle_has_no_effect(text: str) -> None:
    """0 and null are no expiry (§10.8), and what is malformed or unknown is ignored."""
    assert Lifecycle.read({"x-fal-object-lifecycle": text}) == Lifecycle()
