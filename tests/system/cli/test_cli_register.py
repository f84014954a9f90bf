"""`mep register` against a real relay: what is kept of the answer, and what is not."""

import json
import pwd
import stat
import tomllib

import pytest

pytestmark = pytest.mark.root


def mode(path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def test_what_a_site_keeps(mep, etc, admin_token):
    said = mep("register", "test", "--token-file", "-", given=admin_token + "\n")
    parent = json.loads((etc / "parent.json").read_text())
    assert said == f"registered ID: {parent['endpoint_id']}\n"
    manager = tomllib.loads((etc / "policy.toml").read_text())["manager_user"]
    assert mode(etc / "grant.key") == (0o600, 0, 0)
    assert mode(etc / "manager.token") == (0o640, 0, pwd.getpwnam(manager).pw_gid)
    assert mode(etc / "parent.json") == (0o644, 0, 0)
    version, key = (etc / "grant.key").read_text().split()
    assert (version, len(bytes.fromhex(key))) == ("1", 32)
    kept = [path.read_bytes() for path in etc.rglob("*") if path.is_file()]
    assert not any(admin_token.encode() in data for data in kept)


def test_renewing_keeps_the_id_and_the_key(registered, etc, admin_token):
    before = {name: (etc / name).read_text() for name in ("parent.json", "grant.key")}
    with (etc / "config.yaml").open("a") as file:
        file.write("allowed_functions: []\n")
    answer = json.loads(registered("register", "test", "--json", MEP_TOKEN=admin_token))
    after = json.loads((etc / "parent.json").read_text())
    assert answer["endpoint_id"] == json.loads(before["parent.json"])["endpoint_id"]
    assert after["allowed_functions"] == []
    assert (etc / "grant.key").read_text() == before["grant.key"]


def test_somebody_elses_token_changes_nothing(mep, etc, relay):
    done = mep.try_("register", "test", MEP_TOKEN=relay.token("cli-nobody"))
    assert done.returncode == 1
    assert "no administrator" in done.stderr
    assert not (etc / "grant.key").exists()
    done = mep.try_("register", "test", MEP_TOKEN="wrong")
    assert done.returncode == 1
    assert "the relay refuses" in done.stderr


def test_settings_that_disagree_are_refused_before_the_relay_is_asked(mep, etc, admin_token):
    with (etc / "config.yaml").open("a") as file:
        file.write("identity_mapping_config_path: /etc/other.json\n")
    done = mep.try_("register", "test", MEP_TOKEN=admin_token)
    assert done.returncode == 1
    assert "make them agree" in done.stderr
    assert not (etc / "parent.json").exists()


def test_an_owner_registers_without_being_an_administrator(plain, relay):
    token = relay.token("cli-owner")
    plain("configure", "test", "--relay-url", relay.url)
    plain("register", "test", MEP_TOKEN=token)
    home = plain.account.pw_dir
    with open(f"{home}/.config/mep/test/policy.toml", "rb") as file:
        owner = tomllib.load(file)["owner"]
    me = json.loads(plain("whoami", "--json", MEP_TOKEN=token, MEP_RELAY_URL=relay.url))
    assert owner == [me["sub"]]


def test_login_whoami_logout(plain, relay):
    token = relay.token("cli-laptop")
    said = plain("login", "--relay-url", relay.url, "--token-file", "-", given=token)
    assert "as cli-laptop@example.edu" in said
    assert plain("whoami").startswith("cli-laptop@example.edu")
    assert plain("logout") == "logged out\n"
    assert plain("logout") == "you were not logged in\n"
    done = plain.try_("whoami")
    assert done.returncode == 1
    assert "mep login" in done.stderr
    done = plain.try_("login", "--relay-url", relay.url, "--token-file", "-", given="wrong")
    assert done.returncode == 1
    assert plain.try_("whoami").returncode == 1, "a token that the relay refuses is not stored"
