"""Options that several requests share (payload.proto, queue.proto)."""

import json

import pytest
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from falrpc import v1
from falrpc_server.translate import fields
from falrpc_server.translate.violations import InvalidRequest, Violations


def options(**values: object) -> tuple[object, list[str]]:
    violations = Violations()
    read = fields.call_options("options", v1.CallOptions(**values), violations)
    return read, [violation.field for violation in violations.found]


def webhook(url: str) -> list[str]:
    violations = Violations()
    fields.queue_options("queue", v1.QueueOptions(webhook_url=url), violations)
    return [violation.field for violation in violations.found]


@pytest.mark.parametrize(
    ("seconds", "nanos", "accepted"),
    [(1, 0, True), (0, 999_999_999, False), (0, 0, False), (1, 500_000_000, True), (86_400 * 365, 0, True)],
)
def test_a_start_timeout_is_at_least_a_second(seconds: int, nanos: int, accepted: bool) -> None:
    """fal's clients refuse start timeouts below one second, and so do we."""
    _, found = options(start_timeout=duration_pb2.Duration(seconds=seconds, nanos=nanos))
    assert found == ([] if accepted else ["options.start_timeout"])


@pytest.mark.parametrize("hint", ["", "warm", "a b;c,d", "x" * 256])
def test_hints_that_fit_a_header(hint: str) -> None:
    """Printable ASCII up to the bound is a hint."""
    assert options(runner_hint=hint)[1] == []


@pytest.mark.parametrize("hint", ["x" * 257, "ü", "a\r\nX-Fal-Evil: 1", "a\x00", "\x7f", "a\n"])
def test_hints_that_do_not(hint: str) -> None:
    """Nothing that could end or bend a header line is a hint."""
    assert options(runner_hint=hint)[1] == ["options.runner_hint"]


def test_store_io_knows_three_answers() -> None:
    """Absent, false and true are three different things."""
    values = [options(), options(store_io=False), options(store_io=True)]
    assert [read.store_io for read, _ in values] == [None, False, True]


@pytest.mark.parametrize(
    ("tags", "fields_"),
    [
        pytest.param({"team": "a", "a.b_c-9": " !~"}, [], id="good"),
        pytest.param({"k" * 64: "v" * 256}, [], id="longest"),
        pytest.param({str(n): "" for n in range(10)}, [], id="ten"),
        pytest.param({str(n): "" for n in range(11)}, ["options.tags"], id="eleven"),
        pytest.param({f"k{n}": "v" * 256 for n in range(4)}, ["options.tags"], id="too-many-bytes"),
        pytest.param({"": "v"}, ["options.tags['']"], id="empty-key"),
        pytest.param({"Team": "v"}, ["options.tags['Team']"], id="upper-case"),
        pytest.param({"fal.x": "v"}, ["options.tags['fal.x']"], id="reserved"),
        pytest.param({"k" * 65: "v"}, [f"options.tags['{'k' * 65}']"], id="long-key"),
        pytest.param({"k": "v" * 257}, ["options.tags['k']"], id="long-value"),
        pytest.param({"k": "a,b"}, ["options.tags['k']"], id="comma"),
        pytest.param({"k": "ü"}, ["options.tags['k']"], id="not-ascii"),
        pytest.param({"k": "a\nb"}, ["options.tags['k']"], id="newline"),
        pytest.param({"k=x": "v"}, ["options.tags['k=x']"], id="equals-in-key"),
    ],
)
def test_tags(tags: dict[str, str], fields_: list[str]) -> None:
    """Tags that fal would drop without a word are refused, each under its key (§4)."""
    assert options(tags=tags)[1] == fields_


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3))
def test_accepted_tags_read_back(tags: dict[str, str]) -> None:
    """Whatever passes can be taken apart again at its commas and first equals signs."""
    read, found = options(tags=tags)
    if not found:
        pairs = ",".join(f"{k}={v}" for k, v in tags.items())
        assert dict(pair.split("=", 1) for pair in pairs.split(",") if pairs) == tags
        assert read.tags == tags


# Lifecycles


def lifecycle(message: v1.ObjectLifecycle) -> tuple[str, list[str]]:
    violations = Violations()
    text = fields.lifecycle("l", message, violations)
    return text, [violation.field for violation in violations.found]


def test_a_lifecycle_is_fals_json() -> None:
    """Expiration and access control become the JSON of §10.8; an empty lifecycle becomes nothing."""
    allow = v1.AccessDecision.ACCESS_DECISION_ALLOW
    hide = v1.AccessDecision.ACCESS_DECISION_HIDE
    message = v1.ObjectLifecycle(
        expiration=duration_pb2.Duration(seconds=3_600),
        initial_acl=v1.AccessControl(
            default_decision=hide, rules=[v1.AccessRule(user="ann", decision=allow)]
        ),
    )
    text, found = lifecycle(message)
    assert found == []
    assert json.loads(text) == {
        "expiration_duration_seconds": 3_600,
        "initial_acl": {"default": "hide", "rules": [{"user": "ann", "decision": "allow"}]},
    }
    assert lifecycle(v1.ObjectLifecycle()) == ("", [])
    assert json.loads(lifecycle(v1.ObjectLifecycle(initial_acl=v1.AccessControl(default_decision=1)))[0]) == {
        "initial_acl": {"default": "allow"}
    }


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(0, 0), (0, 1), (1, 1), (-1, 0), (101 * 365 * 86_400, 0), (2**40, 0)]
)
def test_an_expiration_is_whole_seconds(seconds: int, nanos: int) -> None:
    """Zero would mean "never" to fal (§10.8), and fractions mean nothing to it: both are refused."""
    message = v1.ObjectLifecycle(expiration=duration_pb2.Duration(seconds=seconds, nanos=nanos))
    assert set(lifecycle(message)[1]) == {"l.expiration"}


ALLOW = v1.AccessDecision.ACCESS_DECISION_ALLOW


@pytest.mark.parametrize(
    ("control", "found"),
    [
        pytest.param(v1.AccessControl(), ["l.initial_acl.default_decision"], id="no default"),
        pytest.param(v1.AccessControl(default_decision=9), ["l.initial_acl.default_decision"], id="default"),
        pytest.param(
            v1.AccessControl(default_decision=ALLOW, rules=[v1.AccessRule(user="a", decision=9)]),
            ["l.initial_acl.rules[0].decision"],
            id="unknown-decision",
        ),
        pytest.param(
            v1.AccessControl(default_decision=ALLOW, rules=[v1.AccessRule(user="a")]),
            ["l.initial_acl.rules[0].decision"],
            id="no-decision",
        ),
        pytest.param(
            v1.AccessControl(
                default_decision=ALLOW,
                rules=[v1.AccessRule(user="ü\r\n", decision=v1.AccessDecision.ACCESS_DECISION_HIDE)],
            ),
            ["l.initial_acl.rules[0].user"],
            id="user",
        ),
        pytest.param(
            v1.AccessControl(
                default_decision=ALLOW,
                rules=[v1.AccessRule(user="a", decision=v1.AccessDecision.ACCESS_DECISION_HIDE)] * 101,
            ),
            ["l.initial_acl.rules"],
            id="too-many",
        ),
    ],
)
def test_bad_access_controls(control: v1.AccessControl, found: list[str]) -> None:
    """Unknown decisions, unnamed users and endless lists are refused where they stand."""
    assert lifecycle(v1.ObjectLifecycle(initial_acl=control))[1] == found


# Queue options


def test_queue_options_are_read() -> None:
    """NORMAL is told from unspecified, where a policy may decide."""
    for priority, low in ((0, None), (1, False), (2, True)):
        violations = Violations()
        message = v1.QueueOptions(priority=priority, no_retry=True, max_queue_length=0)
        read = fields.queue_options("queue", message, violations)
        assert (read.low_priority, read.no_retry, read.max_queue_length) == (low, True, 0)
        assert violations.found == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?x=1",
        "https://example.com:8443",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/hook",
        "https://[2606:4700::1111]/hook",
        "https://[2606:4700::1111]:8443/hook",
        "https://a_b.example.com/",
        "https://example.com./hook",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_public_webhooks(url: str) -> None:
    """Any absolute https URL at a public name or address may be called by fal."""
    assert webhook(url) == []


METADATA = [
    "169.254.169.254", "169.254.169.254.", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376", "169.254.43518", "169.16689662", "0xa9.254.0251.254",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]",
]  # fmt: skip


@pytest.mark.parametrize("host", METADATA)
def test_the_metadata_address_in_twelve_spellings(host: str) -> None:
    """No spelling of a cloud's metadata address passes for a public host."""
    assert webhook(f"https://{host}/latest/") == ["queue.webhook_url"]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://example.com", id="http"),
        pytest.param("ftp://example.com", id="ftp"),
        pytest.param("example.com/hook", id="relative"),
        pytest.param("//example.com/hook", id="no-scheme"),
        pytest.param("https:///hook", id="no-host"),
        pytest.param("https://:443/", id="only-port"),
        pytest.param("https://example.com:99999/", id="port-too-large"),
        pytest.param("https://example.com:x/", id="port-of-letters"),
        pytest.param("https://user:pw@example.com/", id="password"),
        pytest.param("https://user@example.com/", id="user"),
        pytest.param("https://example.com\\@evil.com/", id="backslash"),
        pytest.param("https://exa mple.com/", id="space"),
        pytest.param("https://example.com/\r\nX: y", id="crlf"),
        pytest.param("https://exämple.com/", id="not-ascii"),
        pytest.param("https://example.com/" + "x" * 2_048, id="too-long"),
        pytest.param("https://localhost/", id="localhost"),
        pytest.param("https://LOCALHOST./", id="localhost-dot"),
        pytest.param("https://a.localhost/", id="under-localhost"),
        pytest.param("https://intranet/", id="single-label"),
        pytest.param("https://metadata.google.internal/", id="internal"),
        pytest.param("https://printer.local/", id="local"),
        pytest.param("https://127.0.0.1/", id="loopback"),
        pytest.param("https://127.1/", id="short-loopback"),
        pytest.param("https://10.0.0.1/", id="private"),
        pytest.param("https://192.168.1.1/", id="private-c"),
        pytest.param("https://100.64.0.1/", id="cgnat"),
        pytest.param("https://0.0.0.0/", id="any"),
        pytest.param("https://0/", id="zero"),
        pytest.param("https://[::1]/", id="ipv6-loopback"),
        pytest.param("https://[::]/", id="ipv6-any"),
        pytest.param("https://[fe80::1%25eth0]/", id="link-local"),
        pytest.param("https://[fc00::1]/", id="unique-local"),
        pytest.param("https://[::1/", id="broken-brackets"),
        pytest.param("https://[2606:4700::1111].localhost/", id="after-brackets"),
        pytest.param("https://localhost[2606:4700::1111]/", id="before-brackets"),
        pytest.param("https://a.b%2elocalhost/", id="percent-in-host"),
        pytest.param("https://[64:ff9b::a9fe:a9fe]/", id="nat64"),
        pytest.param("https://[2002:a9fe:a9fe::]/", id="6to4"),
        pytest.param("https://[::7f00:1]/", id="ipv4-compatible"),
        pytest.param("https://224.0.0.1/", id="multicast"),
    ],
)
def test_hostile_webhooks(url: str) -> None:
    """What is no absolute https URL at a public host is refused before fal is told of it."""
    assert webhook(url) == ["queue.webhook_url"]


@given(st.text(max_size=40) | st.text("https:/.@[]0123456789ax%\\", max_size=40))
def test_reading_a_webhook_is_total(url: str) -> None:
    """Any text is either accepted or refused under its field."""
    assert webhook(url) in ([], ["queue.webhook_url"])


@given(st.text(max_size=30))
def test_an_endpoint_is_read_or_refused(text: str) -> None:
    """Any text is an endpoint id, verbatim, or one violation that a caller can be shown."""
    violations = Violations()
    read = fields.endpoint("endpoint_id", text, violations)
    if violations.found:
        with pytest.raises(InvalidRequest) as caught:
            violations.check()
        str(caught.value).encode()
        assert [v.field for v in caught.value.violations] == ["endpoint_id"]
    else:
        assert read.full == text
