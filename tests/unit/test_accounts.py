"""fal keys in memory: used, exchanged, and never shown."""

import pytest

from falrpc_server.fal_http.accounts import Account, key_problem

KEY = "an-id:a-long-secret"


def test_it_is_never_shown() -> None:
    """Neither repr nor str of an account, nor its id, has the key."""
    for account in (Account("server", KEY), Account.of_caller(KEY)):
        assert "secret" not in f"{account!r} {account} {account.id}"


def test_the_same_key_is_the_same_account() -> None:
    """Callers with one key share what they follow; others do not."""
    assert Account.of_caller(KEY).id == Account.of_caller(KEY).id
    assert Account.of_caller(KEY).id != Account.of_caller(KEY + "2").id


def test_a_new_key() -> None:
    """A new key is used at once, and the old one is still kept out of texts."""
    account = Account("server", KEY)
    account.replace_key("an-id:another-secret")
    assert account.credential == (("Authorization", "Key an-id:another-secret"),)
    assert {"another-secret", "a-long-secret", KEY} <= set(account.secrets)
    for number in range(10):
        account.replace_key(f"an-id:secret-number-{number}")
    assert len(account.secrets) <= 4


def test_short_secrets() -> None:
    """A secret that is a common word is not looked for: texts would be full of it."""
    assert Account("server", "id:a").secrets == ()


@pytest.mark.parametrize("key", ["", "a b", "a\n", "é", "a\x7f", "x" * 513])
def test_what_is_no_key(key: str) -> None:
    """A key is printable ASCII without spaces, of bounded length."""
    problem = key_problem(key)
    assert problem
    assert not key or key not in problem


def test_what_is_a_key() -> None:
    """fal's own form is one."""
    assert key_problem(KEY) == ""
