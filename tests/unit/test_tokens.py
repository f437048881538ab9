"""Static tokens: the file, and whose a token is."""

import datetime
import hashlib
import hmac
import tomllib

import pytest

from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.tokens import Tokens, TokensError, entry

NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC).timestamp()
BACKEND, BATCH = "backend-token-0001", "batch-token-000002"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def read(text: str, now: float = NOW) -> Tokens:
    return Tokens.read(text, "tokens.toml", now)


def problems(text: str) -> list[str]:
    with pytest.raises(TokensError) as caught:
        read(text)
    return caught.value.problems


def refused(tokens: Tokens, token: str, now: float = NOW) -> str:
    with pytest.raises(Refusal) as caught:
        tokens.identity(token, now)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")
    assert token not in f"{caught.value} {caught.value.text} {caught.value.cause}"
    return caught.value.cause


@pytest.fixture
def tokens() -> Tokens:
    return read(entry(BACKEND, "team/backend") + entry(BATCH, "team/batch") + entry("x" * 16, "team/backend"))


def test_whose_a_token_is(tokens: Tokens) -> None:
    """Each token is its entry's; an identity may have several."""
    assert [tokens.identity(t, NOW) for t in (BACKEND, BATCH, "x" * 16)] == [
        "team/backend",
        "team/batch",
        "team/backend",
    ]
    assert len(tokens) == 3


@pytest.mark.parametrize(
    "token",
    [BACKEND[:-1], BACKEND + "1", BACKEND.upper(), f" {BACKEND}", f"{BACKEND}\n", digest(BACKEND), "y" * 16],
)
def test_other_tokens_are_nobodys(tokens: Tokens, token: str) -> None:
    """A token that differs in one character is not known, nor is the hash that stands in the file."""
    assert refused(tokens, token) == "the token is not known"


def test_a_short_token_never_counts() -> None:
    """One of 15 characters is refused although the file has its hash; one of 16 counts."""
    both = read(
        f'[[tokens]]\nidentity = "a"\nsha256 = "{digest("x" * 15)}"\n'
        f'[[tokens]]\nidentity = "b"\nsha256 = "{digest("x" * 16)}"\n'
    )
    assert refused(both, "x" * 15) == "the token is shorter than 16 characters"
    assert refused(both, "x") == "the token is shorter than 16 characters"
    assert both.identity("x" * 16, NOW) == "b"


@pytest.mark.parametrize(
    ("expires", "last"),
    [
        ("2026-06-02", datetime.datetime(2026, 6, 2, tzinfo=datetime.UTC)),
        ("2026-06-01T12:00:01Z", datetime.datetime(2026, 6, 1, 12, 0, 1, tzinfo=datetime.UTC)),
        ("2026-06-01T14:00:01+02:00", datetime.datetime(2026, 6, 1, 12, 0, 1, tzinfo=datetime.UTC)),
    ],
)
def test_when_a_token_expires(expires: str, last: datetime.datetime) -> None:
    """It counts until then and no longer; a day begins at midnight UTC. That it has expired is no problem."""
    text = f'[[tokens]]\nidentity = "a"\nsha256 = "{digest(BACKEND)}"\nexpires = {expires}\n'
    tokens = read(text)
    assert tokens.expired == ()
    assert tokens.identity(BACKEND, last.timestamp() - 0.001) == "a"
    assert refused(tokens, BACKEND, last.timestamp()) == "the token of a has expired"
    later = read(text + entry(BATCH, "b"), now=last.timestamp())
    assert later.expired == ("a",)
    assert later.identity(BATCH, last.timestamp()) == "b"


def test_all_problems_are_told() -> None:
    """Everything that is wrong is told at once, with its place, and no hash with it."""
    good = digest(BACKEND)
    told = problems(
        f"""
        token = 1
        [[tokens]]
        identity = "a"
        sha256 = "{good}"
        [[tokens]]
        identity = "b"
        sha256 = "{good.upper()}"
        [[tokens]]
        identity = ""
        sha256 = "{good[:-1]}"
        [[tokens]]
        sha = "x"
        [[tokens]]
        identity = "a\\u001bb"
        sha256 = 5
        expires = 2027-01-01T00:00:00
        [[tokens]]
        identity = 7
        sha256 = "{digest("1")}"
        expires = "2027-01-01"
        """
    )
    assert told == [
        "tokens.toml: token: is no key here; `tokens` is",
        "tokens.toml: tokens[1].sha256: is the same as that of tokens[0]",
        "tokens.toml: tokens[2].identity: is empty",
        "tokens.toml: tokens[2].sha256: must be 64 hexadecimal digits",
        "tokens.toml: tokens[3].sha: is no key here; identity, sha256, expires are",
        "tokens.toml: tokens[3].identity: is missing",
        "tokens.toml: tokens[3].sha256: is missing",
        "tokens.toml: tokens[4].identity: has characters that are not printable ASCII",
        "tokens.toml: tokens[4].sha256: must be 64 hexadecimal digits",
        "tokens.toml: tokens[4].expires: must have a time zone: 2027-01-31T12:00:00Z",
        "tokens.toml: tokens[5].identity: is not text",
        "tokens.toml: tokens[5].expires: must be a date such as 2027-01-31, or a time with its zone such as "
        "2027-01-31T12:00:00Z",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "tokens = []", "tokens = 5", "[tokens]\nidentity = 'a'", "tokens = [5]", "[[tokens", "\0"],
)
def test_a_file_without_tokens(text: str) -> None:
    """A file that names no token, or is no TOML, is a problem: nobody could call."""
    assert all(problem.startswith("tokens.toml: ") for problem in problems(text))


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ("a" * 201, "is longer than 200 characters"),
        ("a\\tb", "has characters that are not printable ASCII"),
        ("é", "has characters that are not printable ASCII"),
        (" a", "begins or ends with a space"),
    ],
)
def test_identities_that_may_not_be(identity: str, problem: str) -> None:
    """An identity is printable ASCII of at most 200 characters."""
    text = f'[[tokens]]\nidentity = "{identity}"\nsha256 = "{digest(BACKEND)}"\n'
    assert problems(text) == [f"tokens.toml: tokens[0].identity: {problem}"]


@pytest.mark.parametrize("identity", ["team/backend", 'a"b\\c', "a" * 200, "spiffe://x/y"])
@pytest.mark.parametrize(
    "expires",
    [None, datetime.date(2027, 1, 31), datetime.datetime(2027, 1, 31, 12, tzinfo=datetime.UTC)],
    ids=str,
)
def test_an_entry_is_what_the_file_takes(identity: str, expires: datetime.date | None) -> None:
    """What is made for a token is read again as it was meant, and has no token in it."""
    text = entry(BACKEND, identity, expires)
    assert BACKEND not in text
    assert tomllib.loads(text)["tokens"][0].get("expires") == expires
    assert read(text).identity(BACKEND, NOW) == identity


def test_entries_that_are_not_made() -> None:
    """No entry is made for a short token, an identity that may not be, or a time without a zone."""
    for token, identity, expires in (
        ("x" * 15, "a", None),
        (BACKEND, "", None),
        (BACKEND, "a\n", None),
        (BACKEND, "a", datetime.datetime(2027, 1, 1)),
    ):
        with pytest.raises(ValueError):
            entry(token, identity, expires)


def test_all_entries_are_compared(monkeypatch: pytest.MonkeyPatch, tokens: Tokens) -> None:
    """Every entry is compared, in constant time, wherever the token is found."""
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token in (BACKEND, BATCH):
        compared.clear()
        tokens.identity(token, NOW)
        assert len(compared) == len(tokens)
