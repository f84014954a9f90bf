"""What may stand in an ``ldap_identity_mapping#1.0.0`` document."""

import ast
import os
import time
from pathlib import Path
from typing import Any

import pytest

import mep.callout.directory
from mep.callout.directory import document
from mep.callout.directory.cache import Cache
from mep.callout.errors import MappingError
from mep.callout.mapping import compile_document

GOOD = {
    "DATA_TYPE": "ldap_identity_mapping#1.0.0",
    "comment": "anything",
    "servers": ["ldaps://ldap.example.edu", "ldaps://[::1]:1636/"],
    "base": "ou=people,dc=example,dc=edu",
    "filter": "(&(objectClass=posixAccount)(mail={username}))",
    "account": "uid",
    "identity_providers": ["3F1C2F1E-6a3e-4a55-9a0b-2f4f1b7c9d10"],
}


def test_defaults() -> None:
    known = document.parse("$", GOOD)
    assert (known.timeout_s, known.cache_s, known.negative_cache_s) == (2.0, 300, 30)
    assert known.filter == ["(&(objectClass=posixAccount)(mail=", "username", "))"]
    assert known.vouched_for({"identity_provider": "3f1c2f1e-6A3E-4a55-9a0b-2f4f1b7c9d10"})
    assert not known.vouched_for({"identity_provider": "*"})
    assert not known.vouched_for({})
    assert document.parse("$", GOOD | {"identity_providers": ["*"]}).vouched_for({})


def test_three_servers_share_the_time() -> None:
    servers = ["ldapi://%2Frun%2Fldapi", "ldaps://a", "ldaps://b"]
    assert document.parse("$", GOOD | {"servers": servers}).timeout_s == pytest.approx(4 / 3)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"filtr": "x"}, "$.filtr is unknown"),
    ({"servers": []}, "$.servers must be"),
    ({"servers": "ldaps://a"}, "$.servers must be"),
    ({"servers": ["http://a"]}, "$.servers must be"),
    ({"servers": ["ldaps://"]}, "$.servers must be"),
    ({"servers": ["ldaps://a:x"]}, "$.servers must be"),
    ({"servers": ["ldaps://u@a"]}, "$.servers must be"),
    ({"servers": ["ldaps://a/dc=x"]}, "$.servers must be"),
    ({"servers": ["ldaps://a ldaps://b"]}, "$.servers must be"),
    ({"servers": ["ldapi://run/ldapi"]}, "$.servers must be"),
    ({"servers": ["ldaps://a"] * 9}, "$.servers must be"),
    ({"servers": ["ldap://ldap.example.edu"]}, "$.servers[0] is not encrypted"),
    ({"servers": ["ldaps://a", "ldap://127.0.0.1.evil"]}, "$.servers[1] is not encrypted"),
    ({"start_tls": True}, "$.servers[0]: start_tls is for ldap://"),
    ({"filter": "(mail=alice)"}, "$.filter must be"),
    ({"filter": "mail={username}"}, "$.filter must be"),
    ({"filter": "(mail={username}"}, "$.filter must be"),
    ({"filter": "(mail={})"}, "$.filter must be"),
    ({"filter": "(mail={0})"}, "$.filter must be"),
    ({"filter": "(mail={username}{)"}, "$.filter must be"),
    ({"filter": None}, "$.filter must be"),
    ({"account": "uid,cn"}, "$.account must be"),
    ({"account": "*"}, "$.account must be"),
    ({"identity_providers": []}, "$.identity_providers must be"),
    ({"identity_providers": "*"}, "$.identity_providers must be"),
    ({"identity_providers": [""]}, "$.identity_providers must be"),
    ({"bind_dn": "cn=x"}, "$ needs both bind_dn and password_file"),
    ({"password_file": "/x"}, "$ needs both bind_dn and password_file"),
    ({"bind_dn": "cn=x", "password_file": "x"}, "$.password_file must be"),
    ({"bind_dn": "cn=x", "password": "secret"}, "$.password is unknown"),
    ({"ca_file": "ca.pem"}, "$.ca_file must be"),
    ({"start_tls": "yes"}, "$.start_tls must be"),
    ({"timeout_s": 0}, "$.timeout_s must be"),
    ({"timeout_s": True}, "$.timeout_s must be"),
    ({"timeout_s": 5}, "$.timeout_s must be"),
    ({"timeout_s": 3}, "$.timeout_s is at most 2 with 2 servers"),
    ({"cache_s": -1}, "$.cache_s must be"),
    ({"negative_cache_s": 1e9}, "$.negative_cache_s must be"),
    ({"cache_dir": "cache"}, "$.cache_dir must be"),
    ({"base": ""}, "$.base must be"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MappingError) as caught:
        compile_document(GOOD | changes)
    assert str(caught.value).startswith(words)


def test_a_key_that_is_missing_is_named() -> None:
    for key in ("servers", "base", "filter", "account", "identity_providers"):
        with pytest.raises(MappingError, match=rf"\$\.{key} must be"):
            compile_document({k: v for k, v in GOOD.items() if k != key})


def test_plain_text_is_for_this_machine_or_by_consent() -> None:
    for changes in (
        {"servers": ["ldap://127.0.0.1", "ldap://localhost:1389", "ldap://[::1]"]},
        {"servers": ["ldap://ldap.example.edu"], "allow_plaintext": True},
        {"servers": ["ldap://ldap.example.edu"], "start_tls": True},
    ):
        assert len(compile_document(GOOD | changes)) == 1


def test_a_cache_has_a_bound(tmp_path: Path) -> None:
    store = Cache(str(tmp_path), 300, 30, most=10)
    now = time.time()
    for number in range(9):
        (tmp_path / str(number)).touch()
    store.put("one", "alice", now)
    assert store.get("one", now) == "alice"
    store.put("two", "bob", now)
    assert store.get("two", now) is None, "it is full"
    old = tmp_path / "0"
    os.utime(old, (now - 301, now - 301))
    store.put("two", "bob", now)
    assert store.get("two", now) == "bob"
    assert not old.exists()


def test_ages_are_of_each_kind(tmp_path: Path) -> None:
    store = Cache(str(tmp_path), 300, 30)
    store.put("found", "alice", 1000.0)
    store.put("missing", "", 1000.0)
    assert [store.get("found", at) for at in (999.0, 1299.0, 1300.0)] == [None, "alice", None]
    assert [store.get("missing", at) for at in (1000.0, 1029.0, 1030.0)] == ["", "", None]
    assert Cache(str(tmp_path), 0, 0).why_not
    assert "No such file" in str(Cache(str(tmp_path / "nowhere"), 1, 1).why_not)


@pytest.mark.parametrize(
    "path",
    [*Path(mep.callout.directory.__file__).parent.glob("*.py")],
    ids=lambda path: path.name,
)
def test_the_distributions_python_may_be_older(path: Path) -> None:
    """RHEL 9 has python3-ldap for Python 3.9."""
    ast.parse(path.read_text(), feature_version=(3, 9))
