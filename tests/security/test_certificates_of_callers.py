"""Callers by their certificates: their own over TLS, and those of which a sidecar tells."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Authority
from tests.conftest import Fal
from tests.failures import Failure, ended
from tests.faults.each_call import failure_of_any
from tests.security.each_method import METHODS, SENTENCES, begun, nothing_came
from tests.security.guarded import TRUST_DOMAIN, Files, as_caller, guarded_gateway

GOOD = f"spiffe://{TRUST_DOMAIN}/shop"
HEADER = "x-forwarded-client-cert"

Certificate = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def mutual(files: Files, kind: str = "spiffe") -> dict[str, Any]:
    """Settings of a listener that knows its callers by their certificates."""
    domain = {"trust_domain": TRUST_DOMAIN} if kind == "spiffe" else {}
    return files.tls(mutual=True) | {"auth": ("mtls",), "certificate_identity": kind} | domain


UNCONNECTED: dict[str, Callable[[Files], Certificate | None]] = {
    "no certificate": lambda files: None,
    "another authority": lambda files: Authority().issue(uris=[GOOD]),
    "expired": lambda files: files.authority.issue(uris=[GOOD], ends=-datetime.timedelta(hours=1)),
    "signed by a workload": lambda files: Authority(files.authority.issue(uris=[GOOD])).issue(uris=[GOOD]),
}


@pytest.mark.parametrize("method", ["Run", "Stream", "Upload"])
async def test_who_does_not_get_a_connection(emulator_url: str, fal: Fal, files: Files, method: str) -> None:
    """Without a certificate of ours that is in force there is no connection; with one there is."""
    async with guarded_gateway(emulator_url, **mutual(files)) as gateway:
        for name, made in UNCONNECTED.items():
            async with as_caller(gateway, files, made(files)) as stub:
                failed = await failure_of_any(begun(stub, method))
            assert (failed.code, failed.details) == ("UNAVAILABLE", []), name
        async with as_caller(gateway) as stub:  # without TLS
            assert (await failure_of_any(begun(stub, method))).code == "UNAVAILABLE"
        assert gateway.logged("call.finished") == []
        nothing_came(fal)
        async with as_caller(gateway, files, files.authority.issue(uris=[GOOD])) as stub:
            assert await ended(begun(stub, method)) == "OK"


UNNAMED = {
    "spiffe": {
        "two URIs": {"uris": [GOOD, f"spiffe://{TRUST_DOMAIN}/admin"]},
        "the same URI twice": {"uris": [GOOD, GOOD]},
        "another trust domain": {"uris": ["spiffe://test.example/shop"]},
        "a trust domain below ours": {"uris": [f"spiffe://a.{TRUST_DOMAIN}/shop"]},
        "a trust domain that begins like ours": {"uris": [f"spiffe://{TRUST_DOMAIN}.evil.example/shop"]},
        "a user before the trust domain": {"uris": [f"spiffe://{TRUST_DOMAIN}@evil.example/shop"]},
        "no workload": {"uris": [f"spiffe://{TRUST_DOMAIN}"]},
        "a relative path": {"uris": [f"spiffe://{TRUST_DOMAIN}/admin/../shop"]},
        "another scheme": {"uris": [f"https://{TRUST_DOMAIN}/shop"]},
        "the id as a DNS name": {"dns": ["prod.example"]},
        "the id as a common name": {"common_names": [GOOD]},
        "the id as a mail address": {"emails": ["shop@prod.example"]},
        "no name": {},
    },
    "dns": {
        "two names": {"dns": ["shop.example", "admin.example"]},
        "a wildcard": {"dns": ["*.shop.example"]},
        "the name as a URI": {"uris": ["https://shop.example"]},
        "the name as a common name": {"common_names": ["shop.example"]},
    },
    "common-name": {
        "two names": {"common_names": ["shop", "admin"]},
        "the name as a DNS name": {"dns": ["shop"]},
        "a name with a control byte": {"common_names": ["shop\r\nadmin"]},
    },
}
NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "spiffe": ({"uris": [GOOD], "dns": ["other.example"], "common_names": ["other"]}, GOOD),
    "dns": ({"dns": ["Shop.Example"], "uris": [GOOD], "common_names": ["other"]}, "shop.example"),
    "common-name": ({"common_names": ["shop"], "dns": ["other.example"]}, "shop"),
}


@pytest.mark.parametrize("kind", UNNAMED)
async def test_who_has_no_name(emulator_url: str, fal: Fal, files: Files, kind: str) -> None:
    """Whose certificate does not have exactly the one name that counts is UNAUTHENTICATED, told in one sentence."""
    async with guarded_gateway(emulator_url, **mutual(files, kind)) as gateway:
        for name, names in UNNAMED[kind].items():
            async with as_caller(gateway, files, files.authority.issue(**names)) as stub:
                is_unauthenticated(await failure_of_any(begun(stub, "Run")), "mtls", name)
        lines = await gateway.finished(len(UNNAMED[kind]))
        assert {line["identity"] for line in lines} == {""}
        assert all(line["cause"] for line in lines)
        nothing_came(fal)
        given, identity = NAMED[kind]
        async with as_caller(gateway, files, files.authority.issue(**given)) as stub:
            assert await ended(begun(stub, "Run")) == "OK"
        assert (await gateway.finished(len(lines) + 1))[-1]["identity"] == identity


async def test_every_method_asks(emulator_url: str, fal: Fal, files: Files) -> None:
    """No method serves a caller without a name."""
    async with guarded_gateway(emulator_url, **mutual(files)) as gateway:
        async with as_caller(gateway, files, files.authority.issue(dns=["shop.example"])) as stub:
            for method in METHODS:
                is_unauthenticated(await failure_of_any(begun(stub, method)), "mtls", method)
        nothing_came(fal)


async def test_other_proofs_do_not_count(emulator_url: str, fal: Fal, files: Files) -> None:
    """Over mTLS neither a forwarded certificate nor a token makes another of a caller."""
    told = [
        (HEADER, f"URI=spiffe://{TRUST_DOMAIN}/admin"),
        ("authorization", "Bearer token-of-somebody-else"),
    ]
    async with guarded_gateway(emulator_url, **mutual(files)) as gateway:
        async with as_caller(gateway, files, files.authority.issue(dns=["shop.example"])) as stub:
            failed = await failure_of_any(begun(stub, "Run", metadata=told))
            is_unauthenticated(failed, "mtls", "no name")
        nothing_came(fal)
        async with as_caller(gateway, files, files.authority.issue(uris=[GOOD])) as stub:
            assert await ended(begun(stub, "Run", metadata=told)) == "OK"
        assert [line["identity"] for line in await gateway.finished(2)] == ["", GOOD]


def is_unauthenticated(failed: Failure, method: str, name: str) -> None:
    """Whether the caller is told what everybody is told."""
    assert (failed.code, failed.info.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED"), name
    assert failed.message == SENTENCES[method], name
    assert failed.delivery == "NOT_SENT", name


# Forwarded certificates

FORWARDED = {"auth": ("forwarded-certificate",), "trust_domain": TRUST_DOMAIN}
ELSEWHERE = f"spiffe://{TRUST_DOMAIN}/admin"
FORGED: dict[str, list[tuple[str, str]]] = {
    "no header": [],
    "an empty one": [(HEADER, "")],
    "two headers": [(HEADER, f"URI={GOOD}"), (HEADER, f"URI={GOOD}")],
    "two elements": [(HEADER, f"URI={GOOD},URI={ELSEWHERE}")],
    "the same element twice": [(HEADER, f"URI={GOOD},URI={GOOD}")],
    "two URIs": [(HEADER, f"URI={GOOD};URI={ELSEWHERE}")],
    "a URI behind a forged quote": [(HEADER, f'Subject="CN=a";URI={GOOD}";URI={ELSEWHERE}')],
    "a quote that does not end": [(HEADER, f'Subject="CN=a;URI={GOOD}')],
    "an escaped quote at the end": [(HEADER, f'Subject="CN=a\\";URI={GOOD}')],
    "an element in a quote that is none": [(HEADER, f'Hash=a",URI={GOOD};x="b')],
    "a key that Envoy does not write": [(HEADER, f"URI={GOOD};Role=admin")],
    "another trust domain": [(HEADER, "URI=spiffe://test.example/shop")],
    "a DNS name": [(HEADER, "DNS=prod.example")],
    "a subject": [(HEADER, f'Subject="CN={GOOD}"')],
    "a space before the key": [(HEADER, f" URI={GOOD}")],
}


async def test_what_no_sidecar_writes(emulator_url: str, fal: Fal) -> None:
    """A header that does not read in one way is UNAUTHENTICATED; what Envoy writes counts."""
    settings = FORWARDED | {"forwarded_certificate_from": ("127.0.0.0/8",)}
    async with guarded_gateway(emulator_url, **settings) as gateway:
        texts = set()
        for name, metadata in FORGED.items():
            failed = await failure_of_any(begun(gateway.stub, "Run", metadata=metadata))
            assert (failed.code, failed.info.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED"), name
            texts.add(failed.message)
        assert len(texts) == 1
        nothing_came(fal)
        good = [(HEADER, f'By=spiffe://{TRUST_DOMAIN}/gateway;Hash=0a;Subject="CN=a,O=\\"b\\"";URI={GOOD}')]
        assert await ended(begun(gateway.stub, "Run", metadata=good)) == "OK"
        assert (await gateway.finished(len(FORGED) + 1))[-1]["identity"] == GOOD


@pytest.mark.parametrize(
    "networks",
    [("10.0.0.0/8",), ("127.0.0.2/32",), ("::1/128", "::ffff:0:0/96")],
    ids=["others", "a neighbour", "IPv6 only"],
)
async def test_a_peer_that_is_no_sidecar(emulator_url: str, fal: Fal, networks: tuple[str, ...]) -> None:
    """From a peer outside the sidecars' networks a good header is worth nothing."""
    settings = FORWARDED | {"forwarded_certificate_from": networks}
    async with guarded_gateway(emulator_url, **settings) as gateway:
        failed = await failure_of_any(begun(gateway.stub, "Run", metadata=[(HEADER, f"URI={GOOD}")]))
        assert (failed.code, failed.info.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
        [line] = await gateway.finished()
        assert (line["identity"], "no sidecar" in line["cause"]) == ("", True)
        nothing_came(fal)


async def test_a_header_that_nobody_asked_for(emulator_url: str, fal: Fal, tmp_path: Path) -> None:
    """Where callers have tokens, or need nothing, the header makes nobody somebody else."""
    header = [(HEADER, f"URI={ELSEWHERE}")]
    tokens = Files(tmp_path).tokens({"shop": "c4n4ry-token-of-the-shop"})
    async with guarded_gateway(emulator_url, auth=("tokens",), tokens_file=tokens) as gateway:
        failed = await failure_of_any(begun(gateway.stub, "Run", metadata=header))
        assert (failed.code, failed.message) == ("UNAUTHENTICATED", SENTENCES["tokens"])
        nothing_came(fal)
        both = [*header, ("authorization", "Bearer c4n4ry-token-of-the-shop")]
        assert await ended(begun(gateway.stub, "Run", metadata=both)) == "OK"
        assert [line["identity"] for line in await gateway.finished(2)] == ["", "shop"]
    async with guarded_gateway(emulator_url) as gateway:
        assert await ended(begun(gateway.stub, "Run", metadata=header)) == "OK"
        assert [line["identity"] for line in await gateway.finished()] == ["anonymous"]
