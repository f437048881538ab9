"""How long uploaded files live, who reads them, and signed URLs (§10.8)."""

import json
from typing import Any

import pytest
from tests.emulator.uploading import CDN, DAY, FAL, REST, Fal, Parts, listed

HOUR = 3_600


async def test_lifetimes_of_every_way() -> None:
    """The lifecycle that an upload asks for counts from when the file is there, in each way (§10.3-10.7)."""
    fal = Fal()
    lifecycle = {"x_fal_object_lifecycle": '{"expiration_duration_seconds": 3600}'}
    twin = {"x_fal_object_lifecycle_preference": '{"expiration_duration_seconds": 3600}'}
    bearer = {"authorization": fal.token()}
    _, urls, _ = fal.call("POST", f"{REST}/upload/initiate{FAL}", {"content_type": "a/b"}, **lifecycle)
    _, signed, _ = fal.call("POST", f"{REST}/upload/initiate-multipart{FAL}", {}, **lifecycle)
    _, began, _ = fal.call("POST", f"{CDN}/files/upload/multipart", **bearer, **twin)
    fal.clock.advance(HOUR)
    assert fal.call("PUT", urls["upload_url"], b"x", content_type="a/b")[0] == 200
    base, _, query = signed["upload_url"].partition("?")
    multipart = Parts(fal, signed["file_url"], base, f"?{query}", "")
    cdn_base = f"{began['access_url']}/multipart/{began['uploadId']}"
    on_cdn = Parts(fal, began["access_url"], cdn_base, "", bearer["authorization"])
    for parts in (multipart, on_cdn):
        assert parts.complete(listed((1, parts.put(1, b"x")[2])))[0] == 200
    plain = [fal.upload(b"x", **header) for header in (lifecycle, twin)]
    every = [urls["file_url"], multipart.url, on_cdn.url, *plain]
    fal.clock.advance(HOUR - 1)
    assert [fal.call("GET", url)[0] for url in every] == [200] * 5
    fal.clock.advance(1)
    assert [fal.call("GET", url)[0] for url in every] == [404] * 5


@pytest.mark.parametrize(("default", "refused"), [("forbid", 403), ("hide", 404)])
def test_readers_of_a_restricted_file(default: str, refused: int) -> None:
    """Owner and friends read with key or token; others and bad credentials are nobody (§10.8)."""
    fal = Fal()
    acl = {"default": default, "rules": [{"user": "friend", "decision": "allow"}]}
    url = fal.upload(b"x", x_fal_object_lifecycle=json.dumps({"initial_acl": acl}))
    for good in ("Key me:x", "Key friend:x", fal.token(), fal.token("friend")):
        assert fal.call("GET", url, authorization=good)[1] == b"x"
    for bad in ("Key me", "Key me:x:y", "Key other:x", fal.token("other"), "Bearer x", "Basic me:x", ""):
        assert fal.call("GET", url, authorization=bad)[0] == refused
    assert fal.call("GET", f"{url}?identity=", user="")[0] == refused


async def test_a_signed_url() -> None:
    """It opens one file to whoever has it, for a day unless another time is asked (§10.8)."""
    fal = Fal()
    forbid = {"x_fal_object_lifecycle": '{"initial_acl": {"default": "forbid"}}'}
    url, other = fal.upload(b"x", **forbid), fal.upload(b"y", **forbid)
    bearer = {"authorization": fal.token(expiration_seconds=30 * DAY)}
    status, text, answer = fal.call("POST", f"{url}/sign", {"scope": ["read"]}, **bearer)
    day = text.decode()
    assert (status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert day.startswith(f"{url}?identity=")
    week = fal.call("POST", f"{url}/sign", {"duration": 7 * DAY, "scope": ["read"]}, **bearer)[1].decode()
    identity = day.partition("?")[2]
    assert fal.call("GET", day)[1] == b"x"
    assert fal.call("GET", f"{other}?{identity}")[0] == 403
    no_token = {"authorization": f"Bearer {identity.partition('=')[2]}"}
    assert fal.call("POST", f"{CDN}/files/upload", b"x", **no_token)[0] == 401
    fal.clock.advance(DAY)
    assert [fal.call("GET", signed)[0] for signed in (day, week)] == [403, 200]
    fal.clock.advance(6 * DAY)
    assert fal.call("GET", week)[0] == 403


def test_who_may_sign() -> None:
    """Only the owner signs: others get 403, or 404 where the file is hidden from them or isn't there."""
    fal = Fal()
    shown = fal.upload(b"x")
    hidden = fal.upload(b"x", x_fal_object_lifecycle='{"initial_acl": {"default": "hide"}}')
    ask = {"scope": ["read"]}
    urls = (shown, hidden, f"{CDN}/files/b/0/a.png")
    for user, statuses in (("me", [200, 200, 404]), ("other", [403, 404, 404])):
        token = fal.token(user)
        found = [fal.call("POST", f"{url}/sign", ask, authorization=token)[0] for url in urls]
        assert found == statuses


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        {"scope": ["write"]},
        {"scope": "read"},
        {"scope": []},
        *[{"duration": bad} for bad in (0, -1, 7 * DAY + 1, "60", True, {}, float("nan"), 10**400)],
    ],
)
def test_a_bad_wish_for_a_signed_url(body: Any) -> None:
    """A signed URL is for reading, and for at most 7 days; anything else is 422."""
    fal = Fal()
    status, answer, _ = fal.call("POST", f"{fal.upload(b'x')}/sign", body, authorization=fal.token())
    assert (status, answer["detail"][0]["loc"][0]) == (422, "body")
