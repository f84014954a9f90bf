import grp
import json
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

import mep.root
from mep.root import policy
from mep.root.refusal import Refusal

DEFAULTS = Path(mep.root.__file__).with_name("policy.toml").read_text()


def test_the_declaration_is_a_policy_that_changes_nothing() -> None:
    assert policy.parse(DEFAULTS) == policy.parse("")


def test_keys_are_read() -> None:
    text = 'minimum_uid = 500\nallow_users = ["a"]\numask = "0027"\n[pam]\nservice_name = "x"\n'
    read = policy.parse(text)
    assert (read.minimum_uid, read.allow_users, read.umask) == (500, ["a"], 0o027)
    assert (read.pam_enable, read.pam_service_name) == (False, "x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minimum_udi = 5", "unknown key minimum_udi"),
        ("zzz = 5", "unknown key zzz"),
        ("minimum_uid = '5'", "minimum_uid"),
        ("minimum_uid = 0", "minimum_uid"),
        ("minimum_uid = -1", "minimum_uid"),
        ("minimum_uid = true", "minimum_uid"),
        ("max_endpoints = 1.5", "max_endpoints"),
        ("allow_users = 'alice'", "allow_users"),
        ("allow_users = [1]", "allow_users"),
        ("allow_users = [['a']]", "allow_users"),
        ("path = ['/bin']", "path"),
        *((f"umask = '{mask}'", "umask") for mask in ("9", "rwx", "", "-1", "0o77", "0077 ")),
        ("umask = 77", "umask"),
        ("pam = 3", "int"),
        ("[pam]\nenabel = true", "unknown key pam_enabel"),
        ("[pam]\nenable = 'no'", "pam_enable"),
        ("[pam.enable]\nx = 1", "pam_enable"),
        ("[limits]\nx = 1", "unknown key limits"),
        ("= =", "line 1"),
        ("a = 1\na = 1", "overwrite"),
    ],
)
def test_what_is_wrong_refuses_to_start(text: str, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        policy.parse(text)


def refused(name: str, **keys: Any) -> Refusal:
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    with pytest.raises(Refusal) as caught:
        policy.serve(policy.parse(text), name)
    return caught.value


def serve(name: str, **keys: Any) -> pwd.struct_passwd:
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return policy.serve(policy.parse(text), name)


@pytest.mark.parametrize(
    "name", ["no-such-account-here", "", "a\0b", "\ud800", "a:b", "a\nb", "x" * 9999]
)
def test_an_account_that_does_not_exist(name: str) -> None:
    assert refused(name).code == "ACCOUNT_UNKNOWN"


def test_root_is_never_served() -> None:
    refusal = refused("root", minimum_uid=1, allow_users=["root"])
    assert refusal.code == "ACCOUNT_REFUSED"
    # Besides, nss-systemd says that root is locked to whoever may not read the shadow file.
    assert refusal.detail.removesuffix(", locked") == "account 'root': root, minimum_uid"


def test_low_uids_are_not_served() -> None:
    assert "minimum_uid" in refused("daemon").detail
    assert serve("daemon", minimum_uid=1, allow_nologin=True).pw_name == "daemon"


def test_the_daemon_s_own_accounts_are_not_served() -> None:
    for key in ("manager_user", "callout_user"):
        assert "own" in refused("daemon", minimum_uid=1, **{key: "daemon"}).detail


@pytest.mark.root
def test_primary_group_root_is_not_served(new_account) -> None:
    name = new_account("wheel").pw_name
    subprocess.run(["usermod", "--gid", "root", name], check=True, timeout=60)
    assert refused(name).detail.endswith(": root")


@pytest.mark.root
def test_users_and_groups(new_account) -> None:
    """Secondary groups count as the primary one does; denial wins."""
    account = new_account("member", "--groups", "users")
    name, own = account.pw_name, grp.getgrgid(account.pw_gid).gr_name
    assert serve(name) == account
    for allowed in ([name], ["*"], ["other", name]):
        assert serve(name, allow_users=allowed) == account
    for allowed in ([], ["other"], [name.upper()]):
        assert refused(name, allow_users=allowed).detail.endswith(": allow_users")
    assert refused(name, deny_users=[name]).detail.endswith(": deny_users")
    for group in (own, "users"):
        assert serve(name, allow_groups=[group]) == account
        assert refused(name, deny_groups=[group]).detail.endswith(": deny_groups")
        assert refused(name, allow_users=[name], deny_groups=[group]).code == "ACCOUNT_REFUSED"
    for groups in ([], ["daemon"]):
        assert refused(name, allow_groups=groups).detail.endswith(": allow_groups")


@pytest.mark.root
def test_locked_and_expired_accounts_and_those_without_a_shell(new_account) -> None:
    name = new_account("locked").pw_name
    assert serve(name).pw_name == name
    for change, rule, key in (
        (["--lock"], "locked", "allow_locked"),
        (["--unlock", "--shell", "/usr/sbin/nologin"], "nologin", "allow_nologin"),
        (["--shell", "/bin/false"], "nologin", "allow_nologin"),
    ):
        subprocess.run(["usermod", *change, name], check=True, timeout=60)
        assert refused(name).detail.endswith(f": {rule}")
        assert serve(name, **{key: True}).pw_name == name
    subprocess.run(["usermod", "--shell", "/bin/sh", "--expiredate", "1", name], check=True)
    assert refused(name, allow_locked=True, allow_nologin=True).detail.endswith(": expired")


@pytest.mark.root
@pytest.mark.parametrize("key", ["allow_groups", "deny_groups"])
def test_a_group_that_does_not_exist_fails_closed(new_account, key: str) -> None:
    name = new_account("member").pw_name
    with pytest.raises(KeyError):
        serve(name, **{key: ["no-such-group-here"]})
