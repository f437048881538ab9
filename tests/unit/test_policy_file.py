"""The policy file: what it may say, and what is said about one that is wrong."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falrpc_server.access.policy import Policy, PolicyError, Tenant
from falrpc_server.access.refusals import Refusal
from falrpc_server.fal_http.models import EndpointId, QueueOptions

EXAMPLE = Path(__file__).parents[2] / "deploy" / "policy.example.toml"
TENANT = "[tenants.t]\n"
RULE = '[[rules]]\nidentities = ["me"]\ntenant = "t"\nrpcs = ["Run"]\nendpoints = ["*"]\n'


def problems(text: str) -> list[str]:
    """What is wrong with a policy."""
    with pytest.raises(PolicyError) as caught:
        Policy.read(text, "p.toml")
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def of_tenant(line: str) -> list[str]:
    return [text.removeprefix("p.toml:1: tenants.t.") for text in problems(TENANT + line + "\n" + RULE)]


def of_rule(**changed: str) -> list[str]:
    """The problems of a rule with some of its lines changed, or left out when empty."""
    lines = {"identities": '["me"]', "tenant": '"t"', "rpcs": '["Run"]', "endpoints": '["*"]'} | changed
    text = TENANT + "[[rules]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)
    return [problem.removeprefix("p.toml:2: rules[0].") for problem in problems(text)]


# What is right


def test_everything_that_a_tenant_may_say() -> None:
    """Each field arrives; numbers that are whole are good where fractions are."""
    text = TENANT + (
        'fal_key_file = "/run/secrets/k"\nweight = 3\ncalls_in_flight_max = 1\nstreams_in_flight_max = 2\n'
        "uploads_in_flight_max = 3\ncalls_per_second = 0.5\nburst = 4\nupload_bytes_max = 1_000\n"
    )
    read = Policy.read(text + RULE, "p.toml").tenants["t"]
    assert read == Tenant("t", "file", "/run/secrets/k", 3.0, 1, 2, 3, 0.5, 4, 1_000)
    assert isinstance(read.weight, float)


@pytest.mark.parametrize("default", ["server", "caller"])
def test_the_defaults_of_a_tenant(default: Any) -> None:
    """A tenant that says nothing has no limits of its own and the key source that the settings say."""
    assert Policy.read(TENANT + RULE, "p", default).tenants["t"] == Tenant("t", default)


def test_a_key_file_may_be_said_outright() -> None:
    """`fal_key_from = "file"` is implied by the file and may stand beside it."""
    text = TENANT + 'fal_key_from = "file"\nfal_key_file = "k"\n' + RULE
    assert Policy.read(text, "p", "caller").tenants["t"].fal_key_from == "file"


def test_the_place_of_a_rule() -> None:
    """A rule knows the line that it begins in; where headers don't tell, the file alone."""
    assert Policy.read(TENANT + "# x\r\n" + RULE, "p.toml").rules[0].place == "p.toml:3: rules[0]"
    in_a_text = TENANT + 'fal_key_file = """\\\n[[rules]]"""\n'
    assert Policy.read(in_a_text + RULE, "p.toml").rules[0].place == "p.toml: rules[0]"
    inline = 'tenants.t = {}\nrules = [{identities = ["me"], tenant = "t", rpcs = []}]\n'
    assert Policy.read(inline, "p.toml").rules[0].place == "p.toml: rules[0]"


# What is wrong with a tenant


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("weight = 0", "weight: must be a number from 0.01 to 1000, not 0"),
        ("weight = -1.5", "weight: must be a number from 0.01 to 1000, not -1.5"),
        ("weight = nan", "weight: must be a number from 0.01 to 1000, not nan"),
        ("weight = inf", "weight: must be a number from 0.01 to 1000, not inf"),
        ("weight = true", "weight: must be a number from 0.01 to 1000, not true"),
        ('weight = "2"', "weight: must be a number from 0.01 to 1000, not '2'"),
        ("calls_in_flight_max = 0", "calls_in_flight_max: must be a whole number from 1 to 1000000, not 0"),
        ("calls_in_flight_max = true", "calls_in_flight_max: must be a whole number from 1 to 1000000, not true"),
        ("streams_in_flight_max = 1.0", "streams_in_flight_max: must be a whole number from 1 to 1000000, not 1.0"),
        ("uploads_in_flight_max = [1]", "uploads_in_flight_max: must be a whole number from 1 to 1000000, not a list"),
        ("uploads_in_flight_max = 1000001", "uploads_in_flight_max: must be a whole number from 1 to 1000000, not 1000001"),
        ("upload_bytes_max = {}", "upload_bytes_max: must be a whole number from 1 to 1099511627776, not a table"),
        ("calls_per_second = 0.0", "calls_per_second: must be a number from 0.001 to 1e+06, not 0.0"),
        ("burst = 5", "burst: has no effect without calls_per_second"),
        ("calls_per_second = 2000-01-01", "calls_per_second: must be a number from 0.001 to 1e+06, not 2000-01-01"),
        (f"upload_bytes_max = 0x{'f' * 5_000}", "upload_bytes_max: must be a whole number from 1 to 1099511627776, not a number of that size"),
        ('fal_key_from = "Server"', 'fal_key_from: must be "server" or "file" or "caller"'),
        ("fal_key_from = []", 'fal_key_from: must be "server" or "file" or "caller"'),
        ('fal_key_from = "file"', 'fal_key_file: is required for fal_key_from = "file"'),
        ('fal_key_file = ""', "fal_key_file: must be a text that is not empty"),
        ('fal_key_file = "a\\u0000b"', "fal_key_file: must be at most 4096 printable characters"),
        ('fal_key_file = "k"\nfal_key_from = "caller"', 'fal_key_file: has no effect with fal_key_from = "caller"'),
        ('fal_key_file = "k"\nfal_key_from = "server"', 'fal_key_file: has no effect with fal_key_from = "server"'),
        ("weigth = 1", "weigth: there is no such setting; weight?"),
        ("Burst = 1", "Burst: there is no such setting; burst?"),
        ('fal_key = "a"', "fal_key: there is no such setting; fal_key_from?"),
        ("zzz = 1", "zzz: there is no such setting"),
        ('"\\u001b[2J" = 1', "'\\x1b[2J': there is no such setting"),
    ],
)  # fmt: skip
def test_a_wrong_tenant(line: str, problem: str) -> None:
    """Each mistake is named with its place and what is allowed."""
    assert of_tenant(line) == [problem]


@pytest.mark.parametrize(
    "line",
    [
        'fal_key_file = "{key}"',
        'fal_key_from = "{key}"',
        'fal_key = "{key}"',
        'fal_key_from = "file"\nfal_key = "{key}"',
        'fal_key_file = ["{key}"]',
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(line: str) -> None:
    """Whoever writes the key itself into the policy is told so, without the key."""
    key = "0a1b2c3d-1111-2222-3333-444444444444:00112233445566778899aabbccddeeff"
    told = " ".join(of_tenant(line.format(key=key)))
    assert told
    assert "0a1b2c3d" not in told
    assert "8899" not in told


@pytest.mark.parametrize("name", ['"a b"', '""', '"' + "x" * 65 + '"', '"-a"', '"a/b"', '"\\u00e4"'])
def test_a_wrong_name_of_a_tenant(name: str) -> None:
    """Names of tenants go into logs and metrics, and are plain words."""
    found = problems(f"[tenants.{name}]\n" + TENANT + RULE)
    assert [problem for problem in found if "must be named with" in problem] == found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RULE, "p.toml: tenants: is required"),
        ("tenants = 1\n" + RULE, "p.toml: tenants: is required"),
        ("tenants = {}\n" + RULE, "p.toml: tenants: is required"),
        ("tenants.t = 5\n" + RULE, "p.toml: tenants.t: must be a table: 5 is none"),
        (TENANT, "p.toml: rules: is required"),
        ("rules = []\n" + TENANT, "p.toml: rules: is required"),
        ("rules = {}\n" + TENANT, "p.toml: rules: is required"),
        ("rules = [1]\n" + TENANT, "p.toml: rules[0]: must be a table: 1 is none"),
        ("tenant = 1\n" + TENANT + RULE, "p.toml: tenant: there is no such setting; tenants?"),
        (TENANT + RULE + "[rule]", "p.toml: rule: there is no such setting; rules?"),
        ("", "p.toml: rules: is required"),
        (TENANT + TENANT + RULE, "p.toml: Cannot declare"),
        (TENANT + RULE + "tenant = 't'", "p.toml: Cannot overwrite a value"),
        ("a = ", "p.toml: Invalid value"),
        ("a = " + "[" * 100_000, "p.toml: "),
        ("a = " + "9" * 5_000, "p.toml: "),
        ("\x00", "p.toml: Invalid statement"),
    ],
)
def test_a_wrong_file(text: str, problem: str) -> None:
    """A file that is no policy at all is refused, an empty one first of all."""
    assert any(found.startswith(problem) for found in problems(text))


def test_too_many_rules() -> None:
    """There is a limit to rules; a policy at the limit is read in a moment."""
    rules = "".join(RULE.replace('"me"', f'"u{number}", "g{number}/*"') for number in range(1_000))
    started = time.process_time()
    assert len(Policy.read(TENANT + rules, "p").rules) == 1_000
    assert time.process_time() - started < 5.0
    assert problems(TENANT + rules + RULE) == ["p.toml: rules: must be at most 1000"]


# What is wrong with a rule


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"identities": ""}, "identities: is required: a list of patterns of identities"),
        ({"identities": "[]"}, 'identities: must have at least one pattern; "**" is everyone'),
        ({"identities": '"me"'}, "identities: must be a list of texts, not 'me'"),
        ({"identities": "[1]"}, "identities[0]: must be a text, not 1"),
        ({"identities": '["a", ""]'}, "identities[1]: must not be empty"),
        ({"identities": '["a", "b", "a"]'}, "identities[2]: 'a' stands at identities[0] already"),
        ({"identities": '["a***"]'}, "identities[0]: must use `*` (within one part) or `**` (anything): 'a***' is none"),
        ({"tenant": ""}, "tenant: is required: the name of a tenant"),
        ({"tenant": '""'}, "tenant: must be a text that is not empty: '' is none"),
        ({"tenant": '"T"'}, "tenant: there is no tenant 'T'; t?"),
        ({"tenant": '"other"'}, "tenant: there is no tenant 'other'"),
        ({"rpcs": '["run"]'}, "rpcs[0]: 'run' is no method of FalService; Run?"),
        ({"rpcs": '["Run", "RESULT"]'}, "rpcs[1]: 'RESULT' is no method of FalService; Result?"),
        ({"rpcs": '["Run", "/falrpc.v1.FalService/Submit"]'}, "rpcs[1]: '/falrpc.v1.FalService/Submit' is no method of FalService; Submit?"),
        ({"rpcs": '["xyz"]'}, "rpcs[0]: 'xyz' is no method of FalService"),
        ({"rpcs": '["*"]'}, "rpcs[0]: must name one method: '*' does not; list them all"),
        ({"rpcs": '["Stream*"]'}, "rpcs[0]: must name one method: 'Stream*' does not; list them all"),
        ({"rpcs": '["Run", "Run"]'}, "rpcs[1]: 'Run' stands at rpcs[0] already"),
        ({"rpcs": "true"}, "rpcs: must be a list of texts, not true"),
        ({"endpoints": ""}, 'endpoints: is required for Run; ["*"] is every endpoint'),
        ({"endpoints": "[]"}, 'endpoints: is required for Run; ["*"] is every endpoint'),
        ({"endpoints": '["*", "a/b"]'}, 'endpoints: "*" is every endpoint: it stands alone'),
        ({"endpoints": '["a/b", "a/b"]'}, "endpoints[1]: 'a/b' stands at endpoints[0] already"),
        ({"priority_max": '"LOW"'}, "priority_max: must be \"normal\" or \"low\", not 'LOW'"),
        ({"store_io": "0"}, "store_io: must be true or false, not 0"),
        ({"store_io": '"false"'}, "store_io: must be true or false, not 'false'"),
        ({"webhook_hosts": '["a.example", "A.example."]'}, "webhook_hosts: 'a.example' stands there twice"),
        ({"webhook_hosts": '"a.example"'}, "webhook_hosts: must be a list of texts, not 'a.example'"),
        ({"lifecycle_seconds_max": "0"}, "lifecycle_seconds_max: must be a whole number from 1 to 3153600000, not 0"),
        ({"lifecycle_seconds_max": "true"}, "lifecycle_seconds_max: must be a whole number from 1 to 3153600000, not true"),
        ({"access_control": "false"}, 'access_control: must be "allowed" or "forbidden", not false'),
        ({"endpoint": '["*"]'}, "endpoint: there is no such setting; endpoints?"),
        ({"store_IO": "true"}, "store_IO: there is no such setting; store_io?"),
    ],
)  # fmt: skip
def test_a_wrong_rule(changed: dict[str, str], problem: str) -> None:
    """Each mistake is named with its place and what is allowed, and nothing else is."""
    assert of_rule(**changed) == [problem]


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "fal-ai/", "/fal-ai", "fal-ai//flux", "fal-ai/*", "fal-ai/**", "**", "fal-ai/flux*", "../flux", "a/./b", "fal-ai/fl%75x", "fal-ai/flux?x", "fal-ai/flux#x", "https://fal.run/fal-ai", "fal ai", "a/\u0430", "a" * 513],
)  # fmt: skip
def test_what_is_no_beginning_of_an_endpoint(pattern: str) -> None:
    """A pattern that no endpoint can begin with is refused: it would look like a rule and be none."""
    (problem,) = of_rule(endpoints=f'["{pattern}"]')
    assert problem.startswith("endpoints[0]: must be an endpoint id or its first parts")


def test_endpoints_are_for_methods_that_have_them() -> None:
    """A rule for Upload alone, or for nothing, needs no endpoints."""
    for rpcs in ("[]", '["Upload"]'):
        text = TENANT + f'[[rules]]\nidentities = ["me"]\ntenant = "t"\nrpcs = {rpcs}\n'
        assert Policy.read(text, "p").rules[0].endpoints == ()


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        (
            ['["a"]', '["a"]'],
            "rules[1]: can never match: rules[0] before it decides for all of its identities",
        ),
        (['["a", "b/*"]', '["b/*", "a"]'], "rules[1]: can never match: rules[0] before it"),
        (['["a"]', '["b"]', '["b", "a"]'], "rules[2]: can never match: rules[1] and rules[0] before it"),
        (['["**"]', '["a*", "b"]'], "rules[1]: can never match: rules[0] before it"),
        (['["a/*"]', '["a/b"]'], "rules[1]: can never match: rules[0] before it"),
        (
            ['["a"]', '["b", "a"]'],
            "rules[1].identities: 'a' can never match here: rules[0] before it decides",
        ),
        (['["a/*"]', '["a/b", "a/**"]'], "rules[1].identities: 'a/b' can never match here: rules[0] before"),
    ],
)
def test_rules_that_never_match(lists: list[str], problem: str) -> None:
    """A pattern that an earlier rule takes away is a mistake, in a whole rule or in a part of it."""
    found = problems(TENANT + "".join(RULE.replace('["me"]', one) for one in lists))
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    "lists", [['["a/b"]', '["a/*"]', '["a/**"]', '["**"]'], ['["a"]', '["A"]', '["a*"]']]
)
def test_exceptions_before_wider_rules(lists: list[str]) -> None:
    """A narrow rule before a wider one is what order is for, and no mistake."""
    rules = "".join(RULE.replace('["me"]', one) for one in lists)
    assert len(Policy.read(TENANT + rules, "p").rules) == len(lists)


def test_all_problems_at_once() -> None:
    """Mistakes of tenants and of several rules are told together, each with file, line and place."""
    second = RULE.replace('"t"', '"u"').replace('"me"', '"you"')
    found = problems(TENANT + "weight = 0\n" + RULE.replace("Run", "Ran") + "\n" + second + "x = 1\n")
    assert [" ".join(problem.split(" ")[:2]) for problem in found] == [
        "p.toml:1: tenants.t.weight:",
        "p.toml:3: rules[0].rpcs[0]:",
        "p.toml:9: rules[1].tenant:",
        "p.toml:9: rules[1].x:",
    ]


def test_endless_problems_are_counted() -> None:
    """The first hundred are told, the rest are counted."""
    found = problems(TENANT + "".join(f"x{number} = 1\n" for number in range(150)) + RULE)
    assert (len(found), found[-1]) == (101, "p.toml: and 50 more problems")


values = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("t"), st.just("Run")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=2),
    max_leaves=5,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        repr(value)
        if isinstance(value, int | float)
        else '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    )


TENANT_KEYS = [
    "fal_key_from",
    "fal_key_file",
    "weight",
    "calls_in_flight_max",
    "calls_per_second",
    "burst",
    "x",
]
RULE_KEYS = ["identities", "tenant", "rpcs", "endpoints", "priority_max", "store_io", "webhook_hosts"]


@given(
    st.dictionaries(st.sampled_from(TENANT_KEYS), values, max_size=3),
    st.lists(st.dictionaries(st.sampled_from([*RULE_KEYS, "lifecycle_seconds_max", "access_control"]), values), max_size=2),
)  # fmt: skip
@example({"weight": 10**400}, [])
def test_any_values_are_a_policy_or_problems(tenant: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """Whatever stands where, the answer is a policy or a list of problems, never another exception."""
    lines = [f"{key} = {toml(value)}" for key, value in tenant.items()]
    for rule in rules:
        lines += ["[[rules]]", *(f"{key} = {toml(value)}" for key, value in rule.items())]
    try:
        Policy.read(TENANT + "\n".join(lines), "p.toml")
    except PolicyError as error:
        assert error.problems  # noqa: PT017 # a policy is as good an outcome
        assert all(problem.isprintable() for problem in error.problems)  # noqa: PT017


@given(st.text())
def test_any_text_is_a_policy_or_problems(text: str) -> None:
    """No text makes anything but a PolicyError: none of them is a policy."""
    assert problems(text)


# The example


@pytest.fixture(scope="module")
def example_policy() -> Policy:
    """deploy/policy.example.toml, read."""
    return Policy.read(EXAMPLE.read_text(), EXAMPLE.name)


@pytest.mark.parametrize(
    ("identity", "rpc", "endpoint_id", "refused"),
    [
        ("spiffe://prod.example/ns/web/sa/shop", "Run", "fal-ai/flux/dev", ""),
        ("spiffe://prod.example/ns/web/sa/shop", "Subscribe", "workflows/our-team/one", ""),
        ("spiffe://prod.example/ns/web/sa/shop", "Run", "fal-ai/flux-pro", "ENDPOINT_NOT_ALLOWED"),
        ("spiffe://prod.example/ns/web/sa/shop", "StreamWorkflow", "fal-ai/flux", "RPC_NOT_ALLOWED"),
        ("spiffe://prod.example/ns/web/sa/old-shop", "Run", "fal-ai/flux/dev", "RPC_NOT_ALLOWED"),
        ("spiffe://prod.example/ns/web/sa/shop/x", "Run", "fal-ai/flux/dev", "CALLER_NOT_ALLOWED"),
        ("spiffe://prod.example/ns/batch/sa/night", "Submit", "any/thing", ""),
        ("spiffe://prod.example/ns/batch/sa/night", "Run", "any/thing", "RPC_NOT_ALLOWED"),
        ("spiffe://other.example/ns/batch/sa/night", "Submit", "any/thing", "CALLER_NOT_ALLOWED"),
        ("partner-a", "Run", "fal-ai/flux/schnell", ""),
        ("partner-a", "Run", "fal-ai/flux/dev", "ENDPOINT_NOT_ALLOWED"),
        ("partner-c", "Run", "fal-ai/flux/schnell", "CALLER_NOT_ALLOWED"),
        ("anonymous", "Run", "fal-ai/flux/schnell", "CALLER_NOT_ALLOWED"),
    ],
)
def test_the_example(example_policy: Policy, identity: str, rpc: str, endpoint_id: str, refused: str) -> None:
    """The example that operators start from decides as its comments say."""
    reason = ""
    try:
        grant = example_policy.grant(identity)
        grant.check_rpc(rpc)
        grant.check_endpoint(EndpointId.parse(endpoint_id))
    except Refusal as refusal:
        reason = refusal.reason
    assert reason == refused


def test_what_the_example_forces(example_policy: Policy) -> None:
    """The tenants of the example have the keys and limits that it shows, and batch work is low."""
    assert {name: tenant.fal_key_from for name, tenant in example_policy.tenants.items()} == {
        "web": "file",
        "batch": "server",
        "partners": "caller",
    }
    batch = example_policy.grant("spiffe://prod.example/ns/batch/a")
    assert batch.queue_options(QueueOptions()).low_priority is True
    assert (batch.tenant.calls_per_second, batch.tenant.burst) == (20.0, 40)
