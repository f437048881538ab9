"""One port for all of fal's hosts: by name, by path, and over TLS."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.emulator.running import AUTHORIZATION, Emulator, running_emulator

from falrpc_server.emulator.routes import HOSTS
from falrpc_server.emulator.tls import Authority

PICTURE = {"prompt": "a", "image_size": {"width": 64, "height": 64}}
FAL_CDN = "?storage_type=fal-cdn-v3"
ASKED = {"file_name": "a.png", "content_type": "image/png"}
QUEUE_URLS = ("status_url", "response_url", "cancel_url")


@pytest.fixture(scope="module")
def tls_emulator() -> Iterator[Emulator]:
    """An emulator that also speaks TLS."""
    with running_emulator("--speed", "20", "--tls-port", "0") as (emulator, _):
        yield emulator


@pytest.fixture(scope="module")
def tls(tls_emulator: Emulator) -> Iterator[httpx.Client]:
    """A client that trusts it, and no one else."""
    trusting = ssl.create_default_context(cadata=tls_emulator.http.get("/_emulator/ca.pem").text)
    with httpx.Client(
        base_url=tls_emulator.https_url, verify=trusting, headers=AUTHORIZATION, trust_env=False, timeout=20
    ) as client:
        yield client


def at(host: str) -> dict[str, Any]:
    """What sends a request to a host by its name, which TLS asks for, too."""
    return {"headers": {"host": host}, "extensions": {"sni_hostname": host.partition(":")[0]}}


def begin_of(url: str) -> str:
    """A URL's scheme, host and first part of its path."""
    return "/".join(url.split("/")[:4])


@pytest.mark.parametrize("port", ["", ":443", ":8088"])
@pytest.mark.parametrize("host", ["queue.fal.run", "QUEUE.fal.Run", "queue.falrun.com"])
def test_queue_by_name(emulator: Emulator, host: str, port: str) -> None:
    """A request to the queue's host, in any case, gets URLs at queue.fal.run with the port that it used."""
    submitted = emulator.http.post("/fal-ai/flux/dev", json=PICTURE, headers={"host": host + port}).json()
    url = f"http://queue.fal.run{port}/fal-ai/flux/requests/{submitted['request_id']}"
    assert [submitted[name] for name in QUEUE_URLS] == [f"{url}/status", url, f"{url}/cancel"]
    path = httpx.URL(submitted["status_url"]).path
    status = emulator.http.get(path, headers={"host": f"queue.fal.run{port}"}).json()
    assert [status[name] for name in QUEUE_URLS] == [submitted[name] for name in QUEUE_URLS]


@pytest.mark.parametrize("host", ["fal.run", "FAL.RUN:80", "falrun.com"])
def test_run_by_name(emulator: Emulator, host: str) -> None:
    """A file that comes out of a run by name is at v3.fal.media, and there under both names of the CDN."""
    answer = emulator.http.post("/fal-ai/fast-sdxl", json=PICTURE, headers={"host": host})
    url = httpx.URL(answer.json()["images"][0]["url"])
    assert url.host == "v3.fal.media"
    for cdn in ("v3.fal.media", "v3b.fal.media", "V3B.fal.media:81"):
        file = emulator.http.get(url.path, headers={"host": cdn})
        assert (file.status_code, file.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize("host", ["rest.fal.ai", "rest.alpha.fal.ai"])
def test_uploads_by_name(emulator: Emulator, host: str) -> None:
    """Uploads begun by name go to v3.fal.media, a token is for its other name (§10.2), and the keys are there."""
    by_name = {"host": host}
    target = emulator.http.post(f"/storage/upload/initiate{FAL_CDN}", json=ASKED, headers=by_name).json()
    assert begin_of(target["file_url"]) == begin_of(target["upload_url"]) == "http://v3.fal.media/files"
    put = httpx.URL(target["upload_url"]).raw_path.decode()
    headers = {"host": "v3.fal.media", "content-type": "image/png"}
    assert emulator.http.put(put, content=b"x", headers=headers).status_code == 200
    path = httpx.URL(target["file_url"]).path
    assert emulator.http.get(path, headers={"host": "v3b.fal.media"}).content == b"x"
    token = emulator.http.post(f"/storage/auth/token{FAL_CDN}", json={}, headers=by_name).json()
    assert token["base_url"] == "http://v3b.fal.media"
    assert "keys" in emulator.http.get("/.well-known/jwks.json", headers=by_name).json()


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("queue.fal.run", "/queue/emulator/echo"),
        ("fal.run", "/run/emulator/echo"),
        ("rest.fal.ai", "/rest/storage/auth/token"),
        ("rest.fal.ai", "/emulator/echo"),
        ("api.fal.ai", "/emulator/echo"),
        ("evil-queue.fal.run", "/emulator/echo"),
        ("queue.fal.run.example", "/emulator/echo"),
        ("x", "/emulator/echo"),
    ],
)
def test_a_path_of_another_host(emulator: Emulator, host: str, path: str) -> None:
    """A host has only its own paths: by name there is no prefix, and by prefix there must be one."""
    assert emulator.http.post(path, content="{}", headers={"host": host}).status_code == 404


@pytest.mark.parametrize(
    "host",
    ["gateway.example", "Gateway.example:1234", "127.0.0.1:1", "[::1]:99", "a_b-c.", "fal.run.example"],
)
def test_other_names(emulator: Emulator, host: str) -> None:
    """By path, URLs are below the host that the request was sent to, spelt as it was."""
    headers = {"host": host}
    submitted = emulator.submit("emulator/echo", headers=headers).json()
    url = f"http://{host}/queue/emulator/echo/requests/{submitted['request_id']}"
    assert [submitted[name] for name in QUEUE_URLS] == [f"{url}/status", url, f"{url}/cancel"]
    picture = emulator.run("fal-ai/fast-sdxl", PICTURE, headers=headers).json()["images"][0]["url"]
    assert picture.startswith(f"http://{host}/cdn/files/b/")
    token = emulator.http.post(f"/rest/storage/auth/token{FAL_CDN}", json={}, headers=headers).json()
    assert token["base_url"] == f"http://{host}/cdn"


ODD = ["", "a b", "evil.example/x", "user@evil.example", "x:port", "x:123456", "x:", "[::1", "[evil]", "\xe9"]
ODD += ["a" * 300, "x?y", "x#y", "x\\y", "http://x", "queue.fal.run:123456"]


@pytest.mark.parametrize("host", ODD)
def test_odd_names(tls_emulator: Emulator, tls: httpx.Client, host: str) -> None:
    """A Host that can't be part of a URL has no say: URLs lead to where the emulator listens."""
    path = "/emulator/echo" if host.startswith("queue.") else "/queue/emulator/echo"
    headers = {b"host": host.encode("latin-1")}
    for client, base in ((tls_emulator.http, tls_emulator.url), (tls, tls_emulator.https_url)):
        submitted = client.post(path, content="{}", headers=headers).json()
        assert begin_of(submitted["response_url"]) == f"{base}/queue"
        assert client.get(submitted["status_url"]).json()["request_id"] == submitted["request_id"]


def test_without_a_host(emulator: Emulator) -> None:
    """HTTP/1.0 needs no Host, and gets URLs that work."""
    request = f"POST /queue/emulator/echo HTTP/1.0\r\nauthorization: {AUTHORIZATION['authorization']}\r\n\r\n"
    with emulator.connect() as connection:
        connection.sendall(request.encode())
        data = b""
        while piece := connection.recv(65_536):
            data += piece
    assert f'"response_url":"{emulator.url}/queue/emulator/echo/requests/'.encode() in data


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_over_tls(tls: httpx.Client, host: str) -> None:
    """The certificate is good for each of fal's hosts, and URLs are https ones of fal's."""
    match HOSTS[host]:
        case "queue":
            submitted = tls.post("/emulator/echo", content="{}", **at(host)).json()
            assert begin_of(submitted["status_url"]) == "https://queue.fal.run/emulator"
            path = httpx.URL(submitted["status_url"]).path
            assert tls.get(path, **at("queue.fal.run")).status_code in (200, 202)
        case "run":
            picture = tls.post("/fal-ai/fast-sdxl", json=PICTURE, **at(host)).json()["images"][0]["url"]
            assert begin_of(picture) == "https://v3.fal.media/files"
            assert tls.get(httpx.URL(picture).path, **at("v3.fal.media")).status_code == 200
        case "rest":
            target = tls.post(f"/storage/upload/initiate{FAL_CDN}", json=ASKED, **at(host)).json()
            assert begin_of(target["upload_url"]) == "https://v3.fal.media/files"
            token = tls.post(f"/storage/auth/token{FAL_CDN}", json={}, **at(host)).json()
            assert token["base_url"] == "https://v3b.fal.media"
        case "cdn":
            assert tls.get("/files/b/0/none.png", **at(host)).status_code == 404


def test_paths_over_tls(tls: httpx.Client, tls_emulator: Emulator) -> None:
    """By path, too, URLs handed out over TLS are https ones, and work."""
    submitted = tls.post("/queue/emulator/echo", content="{}").json()
    assert begin_of(submitted["status_url"]) == f"{tls_emulator.https_url}/queue"
    assert tls.get(submitted["status_url"]).status_code in (200, 202)
    assert tls_emulator.http.get("/_emulator/health").json()["internal_errors"] == 0


def shake_hands(emulator: Emulator, name: str, trusting: ssl.SSLContext) -> None:
    """Opens a TLS connection to the emulator under a name."""
    url = httpx.URL(emulator.https_url)
    with socket.create_connection((url.host, url.port), timeout=10) as raw:
        trusting.wrap_socket(raw, server_hostname=name).close()


def test_names_of_the_certificate(tls_emulator: Emulator) -> None:
    """It is for fal's hosts and this machine, and for no others."""
    trusting = ssl.create_default_context(cadata=tls_emulator.http.get("/_emulator/ca.pem").text)
    for name in (*HOSTS, "localhost", "127.0.0.1", "::1"):
        shake_hands(tls_emulator, name, trusting)
    for name in ("api.fal.ai", "fal.ai", "x.fal.run", "127.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            shake_hands(tls_emulator, name, trusting)


def test_who_trusts_it(tls_emulator: Emulator) -> None:
    """Neither the machine's authorities nor another emulator's vouch for it."""
    another = ssl.create_default_context(cadata=Authority("127.0.0.1").pem.decode())
    for stranger in (ssl.create_default_context(), another):
        with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
            shake_hands(tls_emulator, "queue.fal.run", stranger)
