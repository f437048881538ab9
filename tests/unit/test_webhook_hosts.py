"""Hosts that webhooks may go to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.access import webhook_hosts

PATTERNS = ("hooks.example.com", "*.web.example.com", "1.1.1.1", "2606:4700::1111")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/",
        "https://HOOKS.Example.COM./x?y#z",
        "HTTPS://hooks.example.com:8443/x",
        "https://a.web.example.com/",
        "https://a.b.web.example.com./",
        "https://1.1.1.1/hook",
        "https://[2606:4700:0::1111]:443/hook",
    ],
)
def test_admitted(url: str) -> None:
    """A host is compared without its case, its last dot, its port and what follows."""
    assert webhook_hosts.matching(url, PATTERNS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "https:hooks.example.com",
        "https:///hooks.example.com",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://evil-hooks.example.com/",
        "https://hooks.example.com.evil.example/",
        "https://evilhooks.example.com/",
        "https://x.hooks.example.com/",
        "https://example.com/",
        "https://web.example.com/",
        "https://.web.example.com/",
        "https://evilweb.example.com/",
        "https://hooks.example.com../",
        "https://hooks.example.com@evil.example/",
        "https://evil.example@hooks.example.com/",
        "https://user:secret@hooks.example.com/",
        "https://evil.example\\@hooks.example.com/",
        "https://evil.example\\.web.example.com/",
        "https://evil.example%2f.web.example.com/",
        "https://evil.example%00.web.example.com/",
        "https://evil.example/.web.example.com/",
        "https://evil.example?.web.example.com/",
        "https://evil.example#.web.example.com/",
        "https://evil.example;.web.example.com/",
        "https://evil.example:443:.web.example.com/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com:/@evil.example",
        "https://hooks.example.com\t/",
        "https://hooks.exam\nple.com/",
        " https://hooks.example.com/",
        "https://hooks\u3002example.com/",
        "https://hooks.example.c\u043em/",
        "https://1.1.1.1.web.evil.example/",
        "https://16843009/",
        "https://0x1010101/",
        "https://1.1.257/",
        "https://[2606:4700::1111].evil.example/",
        "https://evil.example[2606:4700::1111]/",
        "https://[2606:4700::1111%25eth0]/",
        "https://2606:4700::1111/",
        "https://[::ffff:1.1.1.2]/",
        "https://hooks.example.com/" + "x" * 2_048,
    ],
)
def test_not_admitted(url: str) -> None:
    """Another host, a name that merely looks alike, and a URL that parsers may read in two ways are outside."""
    assert webhook_hosts.matching(url, PATTERNS) is None


@pytest.mark.parametrize(
    ("given_text", "pattern"),
    [
        ("Hooks.Example.COM.", "hooks.example.com"),
        ("*.Example.com", "*.example.com"),
        ("1.1.1.1", "1.1.1.1"),
        ("[2606:4700:0:0::1111]", "2606:4700::1111"),
        ("2606:4700::1111", "2606:4700::1111"),
    ],
)
def test_patterns_are_read(given_text: str, pattern: str) -> None:
    """A pattern is kept in the form that hosts are compared in."""
    assert webhook_hosts.parse(given_text) == pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.",
        "*.com",
        "com",
        "a.*.com",
        "**.example.com",
        "*example.com",
        "*.1.1.1.1",
        "*.*.example.com",
        "https://example.com",
        "example.com/",
        "example.com:443",
        "a@example.com",
        "a b.example",
        "1.2.3",
        "x..y",
        "bücher.example",
        "%.example.com",
        ".example.com",
        "*.2606::1",
        "fe80::1%eth0",
        "a." + "b" * 64,
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    """A pattern is a whole host name, or `*.` and one: neither a URL nor a wildcard for half the world."""
    with pytest.raises(ValueError, match="without scheme, port or path"):
        webhook_hosts.parse(text)


hostile = st.text("ahw.-@:/\\#?%[] evilxamplcom", max_size=20)


@given(hostile, hostile)
def test_whatever_is_admitted_ends_with_an_allowed_host(before: str, after: str) -> None:
    """No text around an allowed name lets another host in: the authority of what is admitted is that name."""
    url = f"https://{before}.web.example.com{after}"
    if webhook_hosts.matching(url, PATTERNS):
        authority = url.removeprefix("https://").partition("/")[0].partition("?")[0].partition("#")[0]
        host = authority.partition(":")[0].removesuffix(".")
        assert host.endswith(".web.example.com")
        assert not set(host) & set("@\\%[] ")
