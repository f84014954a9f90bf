"""`mep register` against a real relay: what is kept of the answer, and what is not."""

import json
import pwd
import stat
import subprocess
import tomllib
import uuid

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


def test_whoever_is_logged_in_registers(mep, etc, relay):
    """A service client of the environment, and half of one."""
    made = json.loads(relay.command("client", "create", "robot", "--admin", "--json"))
    pair = {"MEP_CLIENT_ID": made["client_id"], "MEP_CLIENT_SECRET": made["client_secret"]}
    done = mep.try_("register", "test", MEP_CLIENT_ID=made["client_id"])
    assert "MEP_CLIENT_SECRET is not; set both, or neither" in done.stderr
    assert mep("register", "test", **pair).startswith("registered ID: ")
    assert (etc / "grant.key").exists()
    kept = [path.read_text() for path in etc.rglob("*") if path.is_file()]
    assert not any(made["client_secret"] in text for text in kept)


def test_an_id_that_people_know_already(mep, etc, relay, admin_token):
    chosen = str(uuid.uuid4())
    register = ("register", "test", "--endpoint-id", chosen)
    done = mep.try_(*register, MEP_TOKEN=admin_token)
    assert f"its operator approves it with `mep-relay endpoint approve {chosen}" in done.stderr
    relay.token("cli-other", admin=True)
    relay.command("endpoint", "approve", chosen, "cli-other")
    assert mep.try_(*register, MEP_TOKEN=admin_token).returncode == 1, "for somebody else"
    relay.command("endpoint", "approve", chosen, "cli-admin")
    assert mep(*register, MEP_TOKEN=admin_token) == f"registered ID: {chosen}\n"
    assert json.loads((etc / "parent.json").read_text())["endpoint_id"] == chosen
    assert mep("register", "test", MEP_TOKEN=admin_token) == f"registered ID: {chosen}\n"
    done = mep.try_("register", "test", "--endpoint-id", str(uuid.uuid4()), MEP_TOKEN=admin_token)
    assert f"registered as {chosen} already" in done.stderr
    with pytest.raises(subprocess.CalledProcessError):
        relay.command("endpoint", "approve", chosen, "cli-admin")


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
