"""What a policy allows, forces and refuses."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc import v1
from falrpc_server.access.policy import Grant, Policy
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.rules import METHODS
from falrpc_server.fal_http.models import CallOptions, EndpointId, QueueOptions, Upload

TWO_TENANTS = """
[tenants.media]
weight = 2
[tenants.batch]
fal_key_from = "caller"
[[rules]]
identities = ["web", "spiffe://p/web/*"]
tenant = "media"
rpcs = ["Run", "Status"]
endpoints = ["fal-ai/flux", "workflows/me", "comfy/me/one", "solo"]
[[rules]]
identities = ["spiffe://p/**"]
tenant = "batch"
rpcs = ["Submit"]
endpoints = ["*"]
"""


def granted(**settings: Any) -> Grant:
    """The grant of a rule with some settings."""
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    text = f"""
        [tenants.t]
        [[rules]]
        identities = ["me"]
        tenant = "t"
        rpcs = ["Run"]
        endpoints = ["*"]
        {lines}
    """
    return Policy.read(text, "policy.toml").grant("me")


def denied(reason: str, field: str = "") -> Any:
    return pytest.raises(
        Refusal,
        check=lambda refusal: (refusal.kind, refusal.reason, refusal.field) == (Kind.DENIED, reason, field),
    )


def allows(grant: Grant, endpoint_id: str) -> bool:
    """Whether the endpoint is allowed; a refusal must be the one for endpoints."""
    endpoint = EndpointId.parse(endpoint_id)
    if grant.endpoint_pattern(endpoint) is None:
        with denied("ENDPOINT_NOT_ALLOWED"):
            grant.check_endpoint(endpoint)
        return False
    grant.check_endpoint(endpoint)
    return True


POLICY = Policy.read(TWO_TENANTS, "policy.toml")


# Whom, what, where


@pytest.mark.parametrize(
    ("identity", "tenant"),
    [
        ("web", "media"),
        ("spiffe://p/web/a", "media"),
        ("spiffe://p/web/a/b", "batch"),
        ("spiffe://p/x", "batch"),
    ],
)
def test_the_first_rule_decides(identity: str, tenant: str) -> None:
    """The first rule in the file that matches gives the tenant, even where a later one matches, too."""
    grant = POLICY.grant(identity)
    assert (grant.identity, grant.tenant.name, grant.rule.tenant) == (identity, tenant, tenant)


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "we",
        "web2",
        "webweb",
        "Web",
        "xweb",
        "web/",
        "anonymous",
        "spiffe://p",
        "spiffe://px/web/a",
        "*",
        "**",
    ],
)
def test_nobody_else_is_admitted(identity: str) -> None:
    """An identity that no rule matches is refused, also one that begins or ends like one that is."""
    with denied("CALLER_NOT_ALLOWED"):
        POLICY.grant(identity)


def test_methods_are_allowed_by_exact_name() -> None:
    """Only the listed names are open: not another case, not a path, not a part, not a later method."""
    grant = POLICY.grant("web")
    grant.check_rpc("Run")
    grant.check_rpc("Status")
    others = [
        "run",
        "RUN",
        "Ru",
        "Runs",
        " Run",
        "Run\n",
        "",
        "*",
        "/falrpc.v1.FalService/Run",
        "StreamStatus",
    ]
    for name in [*others, *(set(METHODS) - {"Run", "Status"})]:
        with denied("RPC_NOT_ALLOWED"):
            grant.check_rpc(name)


@pytest.mark.parametrize(
    "endpoint_id",
    [
        "fal-ai/flux",
        "fal-ai/flux/dev",
        "fal-ai/flux/dev/image-to-image",
        "workflows/me/a",
        "comfy/me/one",
        "solo/x",
    ],
)
def test_endpoints_under_a_pattern(endpoint_id: str) -> None:
    """A pattern is for itself and what is below it, in both namespaces as well."""
    assert allows(POLICY.grant("web"), endpoint_id)


@pytest.mark.parametrize(
    "endpoint_id",
    [
        *(
            "fal-ai/flux-pro",
            "fal-ai/fluxx",
            "fal-ai/flu",
            "x/fal-ai/flux",
            "workflows/fal-ai/flux",
            "comfy/fal-ai/flux",
        ),
        *(
            "Fal-ai/flux",
            "fal-ai/FLUX",
            "fal-ai/flux.1",
            "fal-ai/x/flux",
            "workflows/mee/a",
            "workflows/you/a",
        ),
        *("comfy/me/two", "comfy/me/one2", "me/a", "solo2/x", "me/one"),
    ],
)
def test_endpoints_outside_the_patterns(endpoint_id: str) -> None:
    """What merely begins, ends or reads like an allowed endpoint is not allowed."""
    assert not allows(POLICY.grant("web"), endpoint_id)


def test_an_owner_is_no_endpoint() -> None:
    """`fal-ai` alone does not get as far as the policy."""
    with pytest.raises(ValueError, match="at least 2 parts"):
        EndpointId.parse("fal-ai")


segments = st.sampled_from(
    ["fal-ai", "flux", "flux-pro", "dev", "workflows", "comfy", "me", "one", "solo", "x"]
)


@given(
    st.lists(segments, min_size=2, max_size=5),
    st.lists(st.lists(segments, min_size=1, max_size=4), min_size=1),
)
def test_nothing_outside_the_patterns_is_allowed(parts: list[str], patterns: list[list[str]]) -> None:
    """An endpoint is allowed exactly when its parts begin with those of a pattern."""
    if parts[0] in ("workflows", "comfy") and len(parts) < 3:
        return
    listed = sorted({"/".join(pattern) for pattern in patterns})
    expected = any(parts[: len(pattern)] == pattern for pattern in patterns)
    assert allows(granted_for(listed), "/".join(parts)) is expected


def granted_for(endpoints: list[str]) -> Grant:
    text = f'tenants.t = {{}}\n[[rules]]\nidentities=["me"]\ntenant="t"\nrpcs=["Run"]\nendpoints={json.dumps(endpoints)}'
    return Policy.read(text, "policy.toml").grant("me")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_other_identity_and_no_other_method(identity: str, rpc: str) -> None:
    """Whatever is not listed is refused, whatever it is made of."""
    if identity not in ("web",) and not identity.startswith("spiffe://p/"):
        with denied("CALLER_NOT_ALLOWED"):
            POLICY.grant(identity)
    if rpc not in ("Run", "Status"):
        with denied("RPC_NOT_ALLOWED"):
            POLICY.grant("web").check_rpc(rpc)


def test_a_rule_without_methods_shuts_out() -> None:
    """`rpcs = []` before a wider rule takes every right from those that it names."""
    grant = granted_shut()
    for name in METHODS:
        with denied("RPC_NOT_ALLOWED"):
            grant.check_rpc(name)


def granted_shut() -> Grant:
    shut = '[[rules]]\nidentities = ["spiffe://p/x"]\ntenant = "batch"\nrpcs = []\n'
    before, header, after = TWO_TENANTS.partition("[[rules]]")
    return Policy.read(before + shut + header + after, "policy.toml").grant("spiffe://p/x")


def test_without_a_file_everyone_may_do_everything() -> None:
    """The open policy has one tenant, forces nothing and refuses nothing."""
    policy = Policy.open_to_all("caller")
    grant = policy.grant("anonymous")
    assert [tenant.name for tenant in policy.tenants.values()] == ["default"]
    assert grant.tenant.fal_key_from == "caller"
    for name in METHODS:
        grant.check_rpc(name)
    assert allows(grant, "workflows/any/thing/at-all")
    options = CallOptions(store_io=True, output_lifecycle_json='{"expiration_duration_seconds": null}')
    queue = QueueOptions(low_priority=False, webhook_url="https://anywhere.example")
    assert (grant.call_options(options), grant.queue_options(queue)) == (options, queue)


def test_the_methods_are_those_of_the_service() -> None:
    """The policy knows each method that FalService has, and no other."""
    service = v1.fal_service_pb2.DESCRIPTOR.services_by_name["FalService"]
    assert sorted(METHODS) == sorted(method.name for method in service.methods)


def test_a_refusal_tells_the_caller_no_rule() -> None:
    """What the caller reads names neither rules nor tenants nor other identities; the log has the place."""
    for check in (lambda: POLICY.grant("web").check_rpc("Upload"), lambda: POLICY.grant("nobody\x1b")):
        with pytest.raises(Refusal) as caught:
            check()
        assert not {"rule", "media", "batch", "spiffe"} & set(caught.value.text.replace(",", " ").split())
        assert "\x1b" not in caught.value.text + caught.value.cause
    with pytest.raises(Refusal) as caught:
        POLICY.grant("web").check_rpc("Upload")
    assert "policy.toml:6: rules[0]" in caught.value.cause


# Options


@pytest.mark.parametrize("forced", [True, False])
def test_store_io_is_forced(forced: bool) -> None:
    """It is filled in where the caller says nothing, and a caller who says otherwise is refused."""
    grant = granted(store_io=forced)
    assert grant.call_options(CallOptions()).store_io is forced
    assert grant.call_options(CallOptions(store_io=forced)).store_io is forced
    with denied("OPTION_NOT_ALLOWED", "options.store_io"):
        grant.call_options(CallOptions(store_io=not forced))


def test_low_priority_is_forced() -> None:
    """Unspecified becomes low; normal, said outright, is refused; without a ceiling nothing changes."""
    grant = granted(priority_max="low")
    assert grant.queue_options(QueueOptions()).low_priority is True
    assert grant.queue_options(QueueOptions(low_priority=True)).low_priority is True
    with denied("OPTION_NOT_ALLOWED", "queue.priority"):
        grant.queue_options(QueueOptions(low_priority=False))
    for said in (None, False, True):
        assert (
            granted(priority_max="normal").queue_options(QueueOptions(low_priority=said)).low_priority is said
        )


def test_webhook_hosts() -> None:
    """A webhook goes to an allowed host or nowhere; without a list its host is free."""
    grant = granted(webhook_hosts=["hooks.example.com"])
    good, bad = "https://hooks.example.com/x", "https://evil.example/hooks.example.com"
    assert grant.queue_options(QueueOptions(webhook_url=good)).webhook_url == good
    assert grant.queue_options(QueueOptions()).webhook_url == ""
    assert granted().queue_options(QueueOptions(webhook_url=bad)).webhook_url == bad
    for refusing in (grant, granted(webhook_hosts=[])):
        with denied("OPTION_NOT_ALLOWED", "queue.webhook_url"):
            refusing.queue_options(QueueOptions(webhook_url=bad))


def lifecycle(grant: Grant, text: str) -> Any:
    """What becomes of a lifecycle, the same for calls and uploads."""
    of_call = grant.call_options(CallOptions(output_lifecycle_json=text)).output_lifecycle_json
    assert grant.upload(Upload("f", "", text)).lifecycle_json == of_call
    return json.loads(of_call) if of_call else None


def test_the_lifecycle_is_forced_when_absent() -> None:
    """Files of callers who do not say how long are kept for the most that is allowed; the rest stays."""
    grant = granted(lifecycle_seconds_max=60)
    forbid = {"default": "forbid"}
    assert lifecycle(grant, "") == {"expiration_duration_seconds": 60}
    assert lifecycle(grant, '{"expiration_duration_seconds": 60}') == {"expiration_duration_seconds": 60}
    assert lifecycle(grant, '{"expiration_duration_seconds": 1}') == {"expiration_duration_seconds": 1}
    assert lifecycle(grant, json.dumps({"initial_acl": forbid})) == {
        "expiration_duration_seconds": 60,
        "initial_acl": forbid,
    }


@pytest.mark.parametrize(
    "seconds", ["61", "0", "null", "-1", "true", "1.5", "60.0", '"60"', "1e1", "NaN", "[]", "9" * 30]
)
def test_longer_lifecycles_are_refused(seconds: str) -> None:
    """Longer than allowed, never, and what is no whole number of seconds is refused, on calls and uploads."""
    grant = granted(lifecycle_seconds_max=60)
    text = f'{{"expiration_duration_seconds": {seconds}}}'
    with denied("OPTION_NOT_ALLOWED", "options.output_lifecycle"):
        grant.call_options(CallOptions(output_lifecycle_json=text))
    with denied("OPTION_NOT_ALLOWED", "header.lifecycle"):
        grant.upload(Upload("f", "", text))


@pytest.mark.parametrize("text", ["{", "[]", "1", "null", "[" * 100_000, '{"a": 1} {}'])
def test_a_lifecycle_that_is_none_is_refused(text: str) -> None:
    """What can't be read is not passed on where lifecycles are restricted."""
    for grant in (granted(lifecycle_seconds_max=60), granted(access_control="forbidden")):
        with denied("OPTION_NOT_ALLOWED", "options.output_lifecycle"):
            grant.call_options(CallOptions(output_lifecycle_json=text))


def test_a_lifecycle_has_one_meaning() -> None:
    """A key that stands twice is written once, as it was checked: fal can't read the other one."""
    twice = '{"expiration_duration_seconds": 0, "expiration_duration_seconds": 5}'
    passed = granted(lifecycle_seconds_max=60).call_options(CallOptions(output_lifecycle_json=twice))
    assert passed.output_lifecycle_json == '{"expiration_duration_seconds": 5}'


def test_access_control_is_forbidden() -> None:
    """A caller who says who may read a file is refused; how long it is kept stays free."""
    grant = granted(access_control="forbidden")
    assert lifecycle(grant, "") is None
    assert lifecycle(grant, '{"expiration_duration_seconds": 5}') == {"expiration_duration_seconds": 5}
    for acl in ('{"default": "allow"}', '{"default": "forbid"}', "null"):
        with denied("OPTION_NOT_ALLOWED", "header.lifecycle"):
            grant.upload(Upload("f", "", f'{{"initial_acl": {acl}}}'))
    assert lifecycle(granted(access_control="allowed"), '{"initial_acl": {"default": "allow"}}')


def test_fields_of_nested_requests() -> None:
    """The field of a refusal has the prefix of where the options stand."""
    grant = granted(store_io=True, priority_max="low")
    with denied("OPTION_NOT_ALLOWED", "submit.options.store_io"):
        grant.call_options(CallOptions(store_io=False), "submit.")
    with denied("OPTION_NOT_ALLOWED", "submit.queue.priority"):
        grant.queue_options(QueueOptions(low_priority=False), "submit.")


def test_other_options_stay() -> None:
    """Forcing some options leaves the others as they were."""
    options = CallOptions(start_timeout_seconds=3.0, runner_hint="h", disable_fallback=True, tags={"a": "b"})
    forced = granted(store_io=False).call_options(options)
    assert (forced.start_timeout_seconds, forced.runner_hint, forced.tags) == (3.0, "h", {"a": "b"})
    assert forced.disable_fallback
    queue = granted(priority_max="low").queue_options(QueueOptions(no_retry=True, max_queue_length=0))
    assert (queue.no_retry, queue.max_queue_length) == (True, 0)
