"""The ways to upload a file, and CDN tokens (§10.2-10.7)."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.emulator.running import AUTHORIZATION, Emulator
from tests.emulator.uploading import CDN, DAY, FAL, REST, Fal

from falrpc_server.emulator.files import credentials, uploads

PNG = {"content-type": "image/png"}


def test_a_file_with_a_token(emulator: Emulator) -> None:
    """U1: a token, then one POST; everybody reads the file (§10.2, §10.3)."""
    token = emulator.http.post(f"/rest/storage/auth/token{FAL}", json={}).json()
    assert (token["token_type"], token["base_url"]) == ("Bearer", f"{emulator.url}/cdn")
    headers = {"authorization": f"Bearer {token['token']}", "x-fal-file-name": "cat.png", **PNG}
    answer = emulator.http.post("/cdn/files/upload", content=b"cat", headers=headers)
    url = answer.json()["access_url"]
    assert url.startswith(f"{emulator.url}/cdn/files/b/")
    assert url.endswith("/cat.png")
    read = emulator.http.get(url)
    assert (read.content, read.headers["content-type"]) == (b"cat", "image/png")


def test_a_large_file_with_a_token(emulator: Emulator) -> None:
    """U2: parts arrive and are listed in any order, and the ETag goes back as it came (§10.4)."""
    token = emulator.http.post(f"/rest/storage/auth/token{FAL}", json={}).json()
    data = random.Random(1).randbytes(5 * 1024 * 1024 + 1)
    pieces = [data[at : at + 1024 * 1024] for at in range(0, len(data), 1024 * 1024)]
    headers = {"authorization": f"Bearer {token['token']}", "content-type": "video/mp4"}
    began = emulator.http.post(f"{token['base_url']}/files/upload/multipart", headers=headers).json()
    base = f"{began['access_url']}/multipart/{began['uploadId']}"
    parts = []
    for number in (4, 1, 6, 2, 5, 3):
        answer = emulator.http.put(f"{base}/{number}", content=pieces[number - 1], headers=headers)
        parts.append({"partNumber": number, "etag": answer.headers["etag"]})
        assert answer.headers["etag"].startswith('"')
    done = emulator.http.post(f"{base}/complete", json={"parts": parts}, headers=headers)
    assert done.status_code == 200
    read = emulator.http.get(began["access_url"])
    assert (read.content == data, read.headers["content-type"]) == (True, "video/mp4")
    assert began["access_url"].endswith("/upload.bin")


def test_a_large_file_with_signed_urls(emulator: Emulator) -> None:
    """U5: parts go to the signed URL's path and query, without a credential, and answer JSON (§10.7)."""
    asked = {"file_name": "a (1).mp4", "content_type": "video/mp4"}
    urls = emulator.http.post(f"/rest/storage/upload/initiate-multipart{FAL}", json=asked).json()
    base, _, query = urls["upload_url"].partition("?")
    parts = []
    for number, data in ((1, b"one"), (2, b"two")):
        request = emulator.http.build_request("PUT", f"{base}/{number}?{query}", content=data)
        del request.headers["authorization"]
        answer = emulator.http.send(request)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["etag"] == f'"{answer.json()["etag"]}"'
        parts.append(answer.json())
    assert parts[0]["partNumber"] == 1
    assert emulator.http.post(f"{base}/complete?{query}", json={"parts": parts}).status_code == 200
    assert emulator.http.get(urls["file_url"]).content == b"onetwo"


def test_an_upload_url_works_for_its_file(emulator: Emulator) -> None:
    """U4: the signature must be there, belong to the path, and be fresh (§10.6)."""
    one, two = emulator.initiate(), emulator.initiate()
    signature = two["upload_url"].partition("?")[2]
    for url in (one["file_url"], f"{one['file_url']}?signature=x", f"{one['file_url']}?{signature}"):
        assert emulator.http.put(url, content=b"x", headers=PNG).status_code == 403
    assert emulator.http.get(one["file_url"]).status_code == 404
    assert emulator.http.put(one["upload_url"], content=b"x", headers=PNG).status_code == 200


def test_an_upload_again(emulator: Emulator) -> None:
    """A signed PUT whose answer was lost may be sent again: the file is what came last."""
    urls = emulator.initiate()
    for data in (b"one", b"one", b"another"):
        answer = emulator.http.put(urls["upload_url"], content=data, headers=PNG)
        assert (answer.status_code, answer.headers["etag"][0]) == (200, '"')
        assert emulator.http.get(urls["file_url"]).content == data


def test_an_upload_needs_its_type_and_a_length(emulator: Emulator) -> None:
    """Another content type is refused, and so is a body of unknown length."""
    url = emulator.initiate()["upload_url"]
    assert emulator.http.put(url, content=b"x", headers={"content-type": "text/plain"}).status_code == 403
    assert emulator.http.put(url, content=b"x").status_code == 403
    assert emulator.http.put(url, content=iter([b"x"]), headers=PNG).status_code == 411


def test_a_restricted_file_over_http(emulator: Emulator) -> None:
    """The owner's key reads a hidden file, a stranger's doesn't, and a signed URL opens it (§10.8)."""
    token = emulator.http.post(f"/rest/storage/auth/token{FAL}", json={}).json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    lifecycle = {"x-fal-object-lifecycle": '{"initial_acl": {"default": "hide"}}'}
    url = emulator.http.post("/cdn/files/upload", content=b"x", headers=bearer | lifecycle).json()[
        "access_url"
    ]
    stranger = {"authorization": "Key stranger:secret"}
    assert emulator.http.get(url, headers=stranger).status_code == 404
    assert emulator.http.get(url, headers=AUTHORIZATION).content == b"x"
    signed = emulator.http.post(f"{url}/sign", json={"duration": 60, "scope": ["read"]}, headers=bearer)
    assert signed.headers["content-type"].startswith("text/plain")
    assert emulator.http.get(signed.text, headers=stranger).content == b"x"


@pytest.mark.parametrize(("speed", "real_seconds"), [(1.0, DAY), (20.0, DAY / 20), (1e-9, 1e9)])
def test_dates_of_a_token(speed: float, real_seconds: float) -> None:
    """A token tells real time with the offset that Python's client needs (§10.2), a faster clock less of it."""
    _, body, _ = Fal(speed=speed).call("POST", f"{REST}/auth/token{FAL}")
    created_at, expires_at = (datetime.fromisoformat(body[name]) for name in ("created_at", "expires_at"))
    assert body["expires_at"].endswith("+00:00")
    assert body["created_at"].endswith("+00:00")
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert expires_at - created_at == timedelta(seconds=real_seconds)


@pytest.mark.parametrize(("asked", "seconds"), [({}, DAY), ({"expiration_seconds": 60}, 60)])
async def test_a_token_expires(asked: dict[str, Any], seconds: float) -> None:
    """A token is good for a day, or for as long as was asked, then 401 (§10.2)."""
    fal = Fal()
    token = fal.token(**asked)
    fal.clock.advance(seconds - 1)
    assert fal.call("POST", f"{CDN}/files/upload", b"x", authorization=token)[0] == 200
    fal.clock.advance(1)
    assert fal.call("POST", f"{CDN}/files/upload", b"x", authorization=token)[0] == 401


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b"\xff", *[{"expiration_seconds": bad} for bad in (0, -1, "60", True, 31 * DAY, [])]],
)
def test_a_bad_body_for_a_token(body: Any) -> None:
    """A body that is no object, or asks for an impossible lifetime, is 422."""
    status, answer, _ = Fal().call("POST", f"{REST}/auth/token{FAL}", body)
    assert (status, answer["detail"][0]["loc"][0]) == (422, "body")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer x", "Bearer  ", "Key me:secret", "Bearer \xff"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "files/upload"),
        ("POST", "files/upload/multipart"),
        ("PUT", "files/b/0/a/multipart/x/1"),
        ("POST", "files/b/0/a/multipart/x/complete"),
        ("POST", "files/b/0/a/sign"),
    ],
)
def test_the_cdn_wants_a_token(method: str, path: str, authorization: str) -> None:
    """Without a good CDN token the CDN takes nothing; an API key is none."""
    status, body, _ = Fal().call(method, f"{CDN}/{path}", b"{}", authorization=authorization)
    assert (status, body) == (401, {"detail": "Invalid or expired token"})


def test_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest token is forgotten when there are too many."""
    monkeypatch.setattr(credentials, "CREDENTIALS_MAX", 2)
    fal = Fal()
    tokens = [fal.token() for _ in range(3)]
    statuses = [fal.call("POST", f"{CDN}/files/upload", b"x", authorization=token)[0] for token in tokens]
    assert statuses == [401, 200, 200]


@pytest.mark.parametrize(
    ("path", "gcs", "storage_type", "status"),
    [
        ("upload/initiate", False, "fal-cdn-v3", 200),
        ("upload/initiate", True, "fal-cdn-v3", 200),
        ("upload/initiate", True, "gcs", 200),
        ("upload/initiate", False, "gcs", 400),
        ("upload/initiate", True, "s3", 400),
        ("upload/initiate", True, "", 400),
        ("upload/initiate-multipart", True, "gcs", 200),
        ("upload/initiate-multipart", False, "gcs", 400),
        ("auth/token", True, "gcs", 400),
        ("auth/token", True, "", 400),
    ],
)
def test_storage_types(path: str, gcs: bool, storage_type: str, status: int) -> None:
    """fal's CDN is always there, gcs where it is switched on (§10.5), and anything else is refused."""
    found, body, _ = Fal(gcs=gcs).call("POST", f"{REST}/{path}?storage_type={storage_type}", {})
    assert found == status
    assert status == 200 or body == {"detail": "Invalid storage type"}


@pytest.mark.parametrize("path", ["initiate", "initiate-multipart"])
@pytest.mark.parametrize(
    ("body", "error_type", "loc"),
    [
        (b"[]", "dict_type", ["body"]),
        (b"{", "json_invalid", ["body"]),
        (b"", "json_invalid", ["body"]),
        (b"\xed\xa0\x80", "json_invalid", ["body"]),
        (b"[" * 100_000, "json_invalid", ["body"]),
        ({"file_name": 3}, "string_type", ["body", "file_name"]),
        ({"content_type": ["a"]}, "string_type", ["body", "content_type"]),
    ],
)
def test_a_bad_body_for_an_upload(path: str, body: Any, error_type: str, loc: list[str]) -> None:
    """An upload starts with a JSON object of texts, else 422."""
    status, answer, _ = Fal().call("POST", f"{REST}/upload/{path}{FAL}", body)
    problem = answer["detail"][0]
    assert (status, problem["type"], problem["loc"]) == (422, error_type, loc)


@pytest.mark.parametrize("asked", [{}, {"file_name": None, "content_type": None}, {"file_name": ""}])
def test_an_unnamed_file(asked: dict[str, Any]) -> None:
    """Name and type have defaults (§10.5, §10.6)."""
    fal = Fal()
    _, urls, _ = fal.call("POST", f"{REST}/upload/initiate{FAL}", asked)
    assert urls["file_url"].endswith("/upload.bin")
    assert fal.call("PUT", urls["upload_url"], b"x", content_type="application/octet-stream")[0] == 200


@pytest.mark.parametrize(
    "name", ["\ud800.png", "ü/../é?#%.png", "..", "x" * 5_000 + ".png", "sign", "a\r\nb"]
)
def test_odd_names(name: str) -> None:
    """Whatever a file is called, its URL is short, one part of a path, and leads to it."""
    fal = Fal()
    _, urls, _ = fal.call("POST", f"{REST}/upload/initiate{FAL}", {"file_name": name, "content_type": "a/b"})
    assert len(urls["file_url"]) < 1_000
    assert len(urlsplit(urls["file_url"]).path.split("/")) == 5
    assert fal.call("PUT", urls["upload_url"], b"x", content_type="a/b")[0] == 200
    assert fal.call("GET", urls["file_url"])[1] == b"x"


def test_a_key_on_the_signed_put_has_no_say() -> None:
    """Python's fallback leaks its key to the storage host: accepted, and not looked at (§16.2 no. 10)."""
    fal = Fal(gcs=True)
    _, urls, _ = fal.call("POST", f"{REST}/upload/initiate?storage_type=gcs", {"content_type": "image/png"})
    put = {"content_type": "image/png", "authorization": "Key someone:else"}
    status, _, answer = fal.call("PUT", urls["upload_url"], b"x", **put)
    assert (status, answer.headers["etag"][0]) == (200, '"')
    assert fal.call("GET", urls["file_url"])[1] == b"x"


def test_a_seed_makes_uploads_the_same() -> None:
    """With a seed, the same calls get the same URLs, tokens and upload ids."""
    made = [
        (fal.token(), fal.start("cdn").base, fal.start("signed").query) for fal in (Fal(seed=7), Fal(seed=7))
    ]
    assert made[0] == made[1]


def test_awaited_uploads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest signature is forgotten when too many uploads are awaited."""
    monkeypatch.setattr(uploads, "UPLOADS_MAX", 2)
    fal = Fal()
    urls = [fal.call("POST", f"{REST}/upload/initiate{FAL}", {})[1]["upload_url"] for _ in range(3)]
    put = {"content_type": "application/octet-stream"}
    assert [fal.call("PUT", url, b"x", **put)[0] for url in urls] == [403, 200, 200]
