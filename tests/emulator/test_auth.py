"""Who may call (§2.3)."""

from collections.abc import Iterator

import pytest
from tests.emulator.running import Emulator, running_emulator

PATHS = [
    ("POST", "/run/emulator/echo"),
    ("POST", "/run/emulator/echo/stream"),
    ("POST", "/queue/emulator/echo"),
    ("GET", "/queue/emulator/echo/requests/1"),
    ("GET", "/queue/emulator/echo/requests/1/status"),
    ("GET", "/queue/emulator/echo/requests/1/status/stream"),
    ("PUT", "/queue/emulator/echo/requests/1/cancel"),
    ("POST", "/rest/storage/auth/token?storage_type=fal-cdn-v3"),
    ("POST", "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"),
]


@pytest.fixture(scope="module")
def strict_emulator() -> Iterator[Emulator]:
    """An emulator that takes one key only."""
    with running_emulator("--key", "right:one") as (emulator, _):
        yield emulator


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("key", "status", "text"),
    [
        pytest.param(None, 401, "Authentication is required", id="missing"),
        pytest.param("Bearer a:b", 401, "Invalid Key Authorization header format", id="other scheme"),
        pytest.param("Key ab", 401, "Invalid Key Authorization header format", id="no colon"),
        pytest.param("Key a:b:c d", 401, "Invalid Key Authorization header format", id="space"),
        pytest.param("Key a:", 401, "Invalid Key Authorization header format", id="no secret"),
        pytest.param("Key :b", 401, "Invalid Key Authorization header format", id="no id"),
        pytest.param("", 401, "Invalid Key Authorization header format", id="empty"),
        pytest.param("Key locked:x", 403, "Exhausted balance", id="locked"),
    ],
)
def test_credentials(
    emulator: Emulator, method: str, path: str, key: str | None, status: int, text: str
) -> None:
    """A missing or malformed key is 401 and a locked account 403, on every host that takes keys."""
    request = emulator.http.build_request(method, path, content="{}")
    del request.headers["authorization"]
    if key is not None:
        request.headers["authorization"] = key
    answer = emulator.http.send(request)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(text) or text in answer.json()["detail"]
    assert "x-fal-request-id" in answer.headers


def test_the_one_key(strict_emulator: Emulator) -> None:
    """With --key, another key is 401 and that key works."""
    wrong = strict_emulator.run("emulator/echo")
    assert (wrong.status_code, wrong.json()) == (401, {"detail": "No user found for Key ID and Secret"})
    right = strict_emulator.run("emulator/echo", headers={"authorization": "Key right:one"})
    assert right.status_code == 200


def test_a_download_with_another_key(strict_emulator: Emulator) -> None:
    """With --key, a wrong key on a download counts as none: public files are read, hidden ones are not there."""
    right = {"authorization": "Key right:one"}
    answer = strict_emulator.http.post(
        "/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=right
    )
    bearer = {"authorization": f"Bearer {answer.json()['token']}"}
    hidden = {"x-fal-object-lifecycle": '{"initial_acl": {"default": "hide"}}'}
    for headers, status in ((bearer, 200), (bearer | hidden, 404)):
        uploaded = strict_emulator.http.post("/cdn/files/upload", content=b"x", headers=headers)
        url = uploaded.json()["access_url"]
        assert strict_emulator.http.get(url, headers=right).content == b"x"
        for wrong in ("Key right:two", "Key left:one", "Key right", "nonsense"):
            assert strict_emulator.http.get(url, headers={"authorization": wrong}).status_code == status


def test_files_need_no_key(emulator: Emulator) -> None:
    """Signed uploads and downloads work without a key."""
    urls = emulator.initiate()
    for method, url in (("PUT", urls["upload_url"]), ("GET", urls["file_url"])):
        request = emulator.http.build_request(
            method, url, content=b"x", headers={"content-type": "image/png"}
        )
        del request.headers["authorization"]
        assert emulator.http.send(request).status_code == 200


def test_who_is_refused_leaves_nothing(emulator: Emulator) -> None:
    """A submit without a good key puts nothing in the queue."""
    before = emulator.http.get("/_emulator/requests").json()
    assert emulator.submit("emulator/echo", headers={"authorization": "Key locked:x"}).status_code == 403
    assert emulator.submit("emulator/echo", headers={"authorization": "nonsense"}).status_code == 401
    assert len(emulator.http.get("/_emulator/requests").json()) == len(before)
