"""Whose a queue request is, by its handle alone."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falrpc_server.access.ownership import KEY_CHARACTERS_MIN, Ownership, read_keys
from falrpc_server.fal_http.models import EndpointId, RequestRef

KEY, OTHER_KEY = "k" * KEY_CHARACTERS_MIN, "o" * KEY_CHARACTERS_MIN
REF = RequestRef(EndpointId.parse("fal-ai/flux/dev"), "7d1c2c0e")
OWNERSHIP = Ownership([KEY])
TENANTS = st.text(min_size=1, max_size=20)


def signed(tenant: str = "a", ref: RequestRef = REF, ownership: Ownership = OWNERSHIP) -> RequestRef:
    return dataclasses.replace(ref, ownership_token=ownership.token(tenant, ref))


def test_the_owner() -> None:
    """A tenant's handle is good for that tenant, with any path of the endpoint: fal's queue knows none."""
    ref = signed()
    assert OWNERSHIP.is_owner("a", ref)
    assert OWNERSHIP.is_owner("a", dataclasses.replace(ref, endpoint=EndpointId.parse("fal-ai/flux")))


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "7d1c2c0f"},
        {"endpoint": EndpointId.parse("fal-ai/flux-pro")},
        {"endpoint": EndpointId.parse("workflows/fal-ai/flux")},
        {"ownership_token": ""},
        {"ownership_token": "1"},
        {"ownership_token": "1."},
        {"ownership_token": "1.."},
        {"ownership_token": "2" + signed().ownership_token[1:]},
        {"ownership_token": signed().ownership_token[:-1]},
        {"ownership_token": signed().ownership_token + "A"},
        {"ownership_token": signed().ownership_token.upper()},
        {"ownership_token": signed().ownership_token[:11] + "é" * 43},
        {"ownership_token": "x" * 100_000},
    ],
    ids=repr,
)
def test_what_proves_nothing(change: dict[str, object]) -> None:
    """A token is good for one request of one endpoint, as it was given."""
    assert not OWNERSHIP.is_owner("a", dataclasses.replace(signed(), **change))


@given(tenant=TENANTS, other=TENANTS)
def test_other_tenants(tenant: str, other: str) -> None:
    """No tenant's handle is another's."""
    assert OWNERSHIP.is_owner(other, signed(tenant)) is (tenant == other)


def test_parts_keep_apart() -> None:
    """A tenant's name that runs into the endpoint's does not make the same text."""
    one = signed("a", RequestRef(EndpointId.parse("bc/d"), "r"))
    assert not OWNERSHIP.is_owner("ab", dataclasses.replace(one, endpoint=EndpointId.parse("c/d")))


def test_rotation() -> None:
    """With a new key before the old one, old handles stay good and new ones carry the new key."""
    both = Ownership([OTHER_KEY, KEY])
    assert both.is_owner("a", signed())
    new = signed(ownership=both)
    assert Ownership([OTHER_KEY]).is_owner("a", new)
    assert not OWNERSHIP.is_owner("a", new)
    assert not Ownership([OTHER_KEY]).is_owner("a", signed())


def test_without_keys() -> None:
    """Without keys nothing is signed, and every handle is everybody's."""
    assert Ownership().token("a", REF) == ""
    assert Ownership().is_owner("a", REF)


def test_a_token_tells_nothing() -> None:
    """Neither the key nor the tenant is in a token, and it fits into an error's details."""
    token = OWNERSHIP.token("tenant-of-mine", REF)
    assert KEY[:8] not in token
    assert "tenant" not in token
    assert len(token) <= 64


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no key"),
        ("\n \n", "has no key"),
        ("short", "key 1 is shorter than 32 characters"),
        (f"{KEY}\n\nshort", "key 2 is shorter than 32 characters"),
        (f"{KEY}\n{KEY}", "has a key twice"),
        ("\n".join(f"{n:032}" for n in range(17)), "has more than 16 keys"),
    ],
)
def test_bad_keys(text: str, problem: str) -> None:
    """A file of keys that is no such file is refused, without showing a key."""
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read_keys(text)


def test_keys() -> None:
    """One key a line."""
    assert read_keys(f" {KEY} \n\n{OTHER_KEY}\n") == (KEY, OTHER_KEY)
