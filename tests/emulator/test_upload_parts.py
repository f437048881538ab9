"""Files in parts, with a token or signed URLs (§10.4, §10.7)."""

from typing import Any

import pytest
from tests.emulator.uploading import FAL, REST, Fal, listed

from falrpc_server.emulator.files import uploads

both_ways = pytest.mark.parametrize("way", ["cdn", "signed"])


@both_ways
def test_parts_in_any_order(way: str) -> None:
    """Parts are joined by number, whatever order they came and are listed in (§16.2 no. 9)."""
    parts = Fal().start(way)
    sent = {number: parts.put(number, b"%d," % number)[2] for number in (3, 1, 11, *range(4, 11), 2)}
    assert parts.download()[0] == 404
    assert parts.complete(listed(*sent.items()))[:2] == (200, {"access_url": parts.url})
    assert parts.download()[1] == b"1,2,3,4,5,6,7,8,9,10,11,"
    assert parts.download()[2].headers["content-type"] == "video/mp4"


@both_ways
def test_a_part_sent_again_replaces_itself(way: str) -> None:
    """The same bytes keep their ETag, other bytes replace the part, and the old ETag is no good then."""
    parts = Fal().start(way)
    first, again, other = (parts.put(1, data)[2] for data in (b"x", b"x", b"y"))
    assert first.headers == again.headers != other.headers
    assert parts.complete(listed((1, first)))[0] == 400
    assert parts.complete(listed((1, other)))[0] == 200
    assert parts.download()[1] == b"y"


@both_ways
def test_one_empty_part(way: str) -> None:
    """An empty file has one empty part (§10.7)."""
    parts = Fal().start(way)
    assert parts.complete(listed((1, parts.put(1, b"")[2])))[0] == 200
    assert parts.download()[1] == b""


@both_ways
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "Expected"),
        (b"", "Expected"),
        (b"\xff\xfe", "Expected"),
        (b"[" * 100_000, "Expected"),
        *[(bad, "Expected") for bad in ([], 3, None, {}, {"parts": 3}, {"parts": None}, {"parts": "ab"})],
        *[({"parts": [bad]}, "Expected") for bad in ({}, 3, "a", {"partNumber": 1}, {"etag": "x"})],
        ({"parts": []}, "empty"),
        ({"parts": [[1, 2], [2, 1]]}, "Expected"),
        ({"parts": [(1, "ONE")]}, "Part 2 is missing"),
        ({"parts": [(2, "TWO")]}, "Part 1 is missing"),
        ({"parts": [(1, "ONE"), (2, "TWO"), (3, "x")]}, "Part 3 was not uploaded"),
        ({"parts": [(1, "ONE"), (2, "ONE")]}, "ETag of part 2"),
        ({"parts": [(1, "ONE"), (2, 3)]}, "ETag of part 2"),
        ({"parts": [(1, "ONE"), (2, "")]}, "ETag of part 2"),
        ({"parts": [(1, "ONE"), (2, "TWO"), (1, "ONE")]}, "listed twice"),
        ({"parts": [("1", "ONE"), (2, "TWO")]}, "Part 1 was not uploaded"),
        ({"parts": [(True, "ONE"), (2, "TWO")]}, "Part True was not uploaded"),
        ({"parts": [([], "ONE"), (2, "TWO")]}, "Part [] was not uploaded"),
        ({"parts": [(1.0, "ONE"), (2, "TWO")]}, "Part 1.0 was not uploaded"),
    ],
)
def test_a_bad_list_of_parts(way: str, body: Any, problem: str) -> None:
    """A list that isn't exactly the parts that came is 400, and may be corrected."""
    parts = Fal().start(way)
    one, two = parts.put(1, b"one")[2], parts.put(2, b"two")[2]
    etags = {"ONE": one.headers["etag"], "TWO": two.headers["etag"]}
    if isinstance(body, dict) and isinstance(body.get("parts"), list):
        named = [
            {
                "partNumber": part[0],
                "etag": etags.get(part[1], part[1]) if isinstance(part[1], str) else part[1],
            }
            if isinstance(part, tuple)
            else part
            for part in body["parts"]
        ]
        body = {"parts": named}
    status, answer, _ = parts.complete(body)
    assert status == 400
    assert problem in answer["detail"]
    assert parts.download()[0] == 404
    assert parts.complete(listed((2, two), (1, one)))[0] == 200
    assert parts.download()[1] == b"onetwo"


@both_ways
def test_a_gap_between_parts(way: str) -> None:
    """Part numbers go from 1 without a gap: a lost part is noticed."""
    parts = Fal().start(way)
    status, body, _ = parts.complete(listed((1, parts.put(1, b"a")[2]), (3, parts.put(3, b"c")[2])))
    assert (status, body) == (400, {"detail": "Part 2 is missing"})


@both_ways
def test_completing_twice(way: str) -> None:
    """The same list again gets the same answer, and no part comes later: what was read stays as it is."""
    parts = Fal().start(way)
    given = listed((1, parts.put(1, b"x")[2]))
    assert parts.complete(given)[:2] == parts.complete(given)[:2] == (200, {"access_url": parts.url})
    assert parts.put(1, b"y")[0] == 400
    assert parts.complete({"parts": []})[0] == 400
    assert parts.download()[1] == b"x"


@both_ways
@pytest.mark.parametrize("number", ["0", "-1", "01x", "x", "1.0", "10001", "9" * 5_000, "%C2%B2"])
def test_bad_part_numbers(way: str, number: str) -> None:
    """A part's number is a number from 1 to 10,000."""
    assert Fal().start(way).put(number, b"x")[0] == 400


def test_no_way_into_anothers_upload() -> None:
    """Parts want the upload's own path, secret and way; the CDN also wants its owner's token."""
    fal = Fal()
    cdn, signed = fal.start("cdn"), fal.start("signed")
    single = fal.call("POST", f"{REST}/upload/initiate{FAL}", {})[1]
    path, _, query = single["upload_url"].partition("?")
    assert fal.call("PUT", f"{path}/1?{query}", b"x")[0] == 403
    assert fal.call("POST", f"{path}/complete?{query}", {"parts": []})[0] == 403
    assert fal.call("PUT", f"{signed.url}{signed.query}", b"x", content_type="video/mp4")[0] == 403
    assert fal.call("PUT", f"{path}/1{signed.query}", b"x")[0] == 403
    assert fal.call("PUT", f"{signed.base}/1", b"x")[0] == 403
    upload_id = cdn.base.rpartition("/")[2]
    assert fal.call("PUT", f"{cdn.url}/1?signature={upload_id}", b"x")[0] == 403
    secret = signed.query.partition("=")[2]
    for url in (f"{signed.url}/multipart/{secret}/1", f"{signed.url}/multipart/{upload_id}/1"):
        assert fal.call("PUT", url, b"x", **cdn.headers)[0] == 404
    assert fal.call("PUT", f"{cdn.base}/1", b"x", authorization=fal.token("other"))[0] == 404
    assert fal.call("PUT", f"{cdn.base}/1", b"x", authorization=fal.token())[0] == 200


def test_the_bytes_of_parts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload that rests longest makes room, a complete one takes none, and one too large is 413."""
    monkeypatch.setattr(uploads, "PARTS_BYTES_MAX", 100)
    fal = Fal()
    done, one, two, three = (fal.start("signed") for _ in range(4))
    assert done.complete(listed((1, done.put(1, bytes(100))[2])))[0] == 200
    for parts in (one, two, two, one):
        assert parts.put(1, bytes(40))[0] == 200
    assert three.put(1, bytes(40))[0] == 200
    assert [parts.put(2, b"")[0] for parts in (one, two, three)] == [200, 403, 200]
    assert three.put(3, bytes(101))[0] == 413
    assert one.put(1, bytes(40))[0] == 403
    assert done.download()[1] == bytes(100)
