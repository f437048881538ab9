"""Patterns of callers' identities."""

import time
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falrpc_server.access.identity_patterns import (
    IDENTITY_CHARACTERS_MAX,
    PATTERN_CHARACTERS_MAX,
    WILDCARDS_MAX,
    IdentityPattern,
)

SMALL = "ab/."


def matches(pattern: str, identity: str) -> bool:
    return IdentityPattern.parse(pattern).matches(identity)


@pytest.mark.parametrize(
    ("pattern", "admitted", "not_admitted"),
    [
        ("web", ["web"], ["web2", "we", "aweb", "Web", "WEB", "web/", "/web", " web", "web\n", ""]),
        (
            "spiffe://p/ns/*/sa/web",
            ["spiffe://p/ns/a/sa/web"],
            ["spiffe://p/ns/a/b/sa/web", "spiffe://p/ns/sa/web"],
        ),
        ("team/*", ["team/a", "team/a.b"], ["team/a/b", "team", "team2/a", "x/team/a"]),
        ("team/**", ["team/a", "team/a/b"], ["team", "team2/a", "x/team/a"]),
        ("*@example.com", ["a@example.com"], ["a@example.com.evil", "a/b@example.com", "a@exampleXcom"]),
        ("**/web", ["a/web", "a/b/web"], ["web", "a/web/b", "a/web2"]),
        ("*", ["a", "web.x"], ["a/b", ""]),
        ("**", ["a", "a/b", "/"], [""]),
        ("a*b*c", ["abc", "axbxc", "abbcc"], ["ab", "ac", "abcd", "a/bc"]),
        ("*/a/**/b", ["x/a/y/b", "x/a/y/z/b", "x/a//b"], ["x/y/a/z/b", "x/a/b"]),
        ("a**a", ["aa", "aba"], ["a"]),
    ],
)
def test_what_patterns_admit(pattern: str, admitted: list[str], not_admitted: list[str]) -> None:
    """`*` stays within a part, `**` crosses parts, and all else is compared to the last character."""
    for identity in admitted:
        assert matches(pattern, identity), identity
    for identity in not_admitted:
        assert not matches(pattern, identity), identity


@pytest.mark.parametrize("character", list(".+?^$|()[]{}\\-#&~"))
def test_no_character_is_special(character: str) -> None:
    """What means something in regular expressions stands for itself."""
    assert matches(f"a{character}b", f"a{character}b")
    for other in ("ab", "aab", "axb", "a", "b", ""):
        assert not matches(f"a{character}b", other)


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("", "must not be empty"),
        ("a***", "`\\*\\*` .anything."),
        (" a", "without spaces around"),
        ("a\n", "printable"),
        ("a\x1bb", "printable"),
        ("a" * (PATTERN_CHARACTERS_MAX + 1), f"at most {PATTERN_CHARACTERS_MAX}"),
        ("a*" * (WILDCARDS_MAX + 1), f"at most {WILDCARDS_MAX} wildcards"),
    ],
)
def test_bad_patterns(pattern: str, allowed: str) -> None:
    """What is no pattern is refused with what is allowed."""
    with pytest.raises(ValueError, match=allowed):
        IdentityPattern.parse(pattern)


def test_the_longest_patterns_and_identities() -> None:
    """Both bounds hold at the character: `**` admits the longest identity and none that is longer."""
    assert IdentityPattern.parse("a" * PATTERN_CHARACTERS_MAX).is_literal
    assert IdentityPattern.parse("a*" * WILDCARDS_MAX).matches("a" * WILDCARDS_MAX)
    assert matches("**", "x" * IDENTITY_CHARACTERS_MAX)
    assert not matches("**", "x" * (IDENTITY_CHARACTERS_MAX + 1))


@pytest.mark.parametrize("wildcard", ["*", "**"])
def test_no_match_takes_long(wildcard: str) -> None:
    """The worst that fits the bounds, on which a backtracking matcher would spend years, is done at once."""
    pattern = IdentityPattern.parse(f"a{wildcard}" * (WILDCARDS_MAX - 1) + f"b{wildcard}a")
    started = time.process_time()
    assert not pattern.matches("a" * IDENTITY_CHARACTERS_MAX)
    assert time.process_time() - started < 0.25


pieces = st.lists(st.sampled_from([*SMALL, "*", "**"]), min_size=1, max_size=8).map("".join)


@given(pieces.filter(lambda text: "***" not in text), st.text(SMALL, max_size=8))
@example("*a", "aa")
@example("**/a", "/a/a")
def test_matching_against_a_slow_reference(pattern: str, identity: str) -> None:
    """The matcher says what the plain definition says, tried out way by way."""
    assert matches(pattern, identity) is (bool(identity) and reference(pattern, identity))


@cache
def reference(pattern: str, identity: str) -> bool:
    if not pattern:
        return not identity
    if pattern.startswith("*"):
        crosses = pattern.startswith("**")
        rest = pattern.lstrip("*")
        return reference(rest, identity) or (
            bool(identity) and (crosses or identity[0] != "/") and reference(pattern, identity[1:])
        )
    return identity[:1] == pattern[0] and reference(pattern[1:], identity[1:])


@given(st.text(max_size=40))
def test_a_literal_admits_itself_only(identity: str) -> None:
    """A pattern without a wildcard admits one identity."""
    assert matches("spiffe://prod/web", identity) is (identity == "spiffe://prod/web")
