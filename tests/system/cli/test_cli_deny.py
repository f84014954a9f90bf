"""``mep deny``, ``mep allow``, ``mep recheck`` and ``mep rotate-key`` for a running endpoint."""

import json
import os
import signal

import pytest
from cli_site import begin, pids_gone, user_endpoint

pytestmark = pytest.mark.root


@pytest.fixture
def running(registered, etc, alice, client):
    """An endpoint with a user endpoint of alice's: `mep start`, and the user endpoint's pid."""
    process = begin(registered)
    yield process, user_endpoint(registered, etc, client, alice, process.stderr)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.parametrize("who", ["account", "username"])
def test_a_denial_ends_what_runs_and_is_undone(registered, etc, alice, running, who):
    _, pid = running
    word = alice.pw_name if who == "account" else "cli-alice@example.edu"
    said = registered("deny", word, "--reason", "ticket  4711\n# x")
    assert said == f"test: {word} is refused; 1 of 1 user endpoints ended\n"
    pids_gone(pid, seconds=0)
    text = (etc / "denied").read_text()
    assert text.splitlines()[-1] == word
    assert text.splitlines()[0].endswith(" ticket 4711 # x")
    registered("deny", word)
    assert (etc / "denied").read_text() == text, "once is enough"
    assert "not refused any more" in registered("allow", word)
    assert (etc / "denied").read_text() == ""
    again = registered.try_("allow", word)
    assert (again.returncode, "is not denied here" in again.stderr) == (1, True)
    audit = etc.parents[2] / "var/log/mep-warden/test/audit.log"
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [one["event"] for one in records if "who" in one] == ["denied", "denied", "allowed"]


def test_one_that_ignores_its_end_is_waited_for(registered, etc, alice, client):
    """Also where only its leader knows that it is meant, as by a username."""
    policy = etc / "policy.toml"
    command = json.dumps(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    policy.write_text(
        f"endpoint_command = {command}\n{policy.read_text()}".replace(
            "stop_grace_s = 10", "stop_grace_s = 4"
        )
    )
    process = begin(registered)
    pid = user_endpoint(registered, etc, client, alice, process.stderr)
    said = registered("deny", "cli-alice@example.edu")
    assert "1 of 1 user endpoints ended" in said
    pids_gone(pid, seconds=0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def test_somebody_else_s_denial_ends_nobody(registered, running):
    _, pid = running
    said = registered("deny", "mallory@example.org", "--endpoint", "test")
    assert "0 of 1 user endpoints ended" in said
    os.kill(pid, 0)


@pytest.mark.parametrize("who", ["", " ", "# x", "a\nb", "\x1b[2J", " alice"])
def test_who_is_nobody(registered, who):
    done = registered.try_("deny", who)
    assert done.returncode == 1
    assert "is no account and no identity" in done.stderr
    assert "\x1b" not in done.stderr


def test_who_is_hardly_meant_is_warned_of(registered, session_accounts):
    """A typing error would deny nobody, and look as if it had."""
    there = session_accounts("alice").pw_name
    for who in (there, "alice@example.edu", "9f6d2c1e-8b60-4a0e-b6a5-3a4d9f6a7b10", f"{there}x"):
        done = registered.try_("deny", who)
        assert done.returncode == 0
        assert ("spelt right" in done.stderr) == (who == f"{there}x")


def test_a_recheck_sees_a_changed_policy(registered, etc, alice, running):
    _, pid = running
    assert "0 of 1 user endpoints ended" in registered("recheck", "test")
    policy = etc / "policy.toml"
    text = policy.read_text()
    policy.write_text(f'deny_users = ["{alice.pw_name}"]\n{text}')
    assert "1 of 1 user endpoints ended" in registered("recheck", "test")
    pids_gone(pid, seconds=0)


def test_a_key_is_rotated_while_a_user_endpoint_runs(
    registered, etc, alice, client, admin_token, running
):
    """What runs notices nothing, what starts afterwards starts by the new key."""
    process, pid = running
    old = (etc / "grant.key").read_text()
    said = registered("rotate-key", "test", "--now", MEP_TOKEN=admin_token)
    assert said == "test: only key version 2 is accepted\n"
    new = (etc / "grant.key").read_text()
    assert new.split()[0] == "2"
    assert new.split()[1] not in old
    assert (etc / "grant.key").stat().st_mode & 0o777 == 0o600
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    pids_gone(pid)
    assert user_endpoint(registered, etc, client, alice, process.stderr) != pid


def test_both_keys_are_accepted_until_it_is_finished(registered, etc, admin_token):
    process = registered.begin("rotate-key", "test", MEP_TOKEN=admin_token)
    assert "signs with key version 2" in process.stdout.readline()
    assert [line.split()[0] for line in (etc / "grant.key").read_text().splitlines()] == ["1", "2"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    registered("rotate-key", "test", "--finish")
    assert [line.split()[0] for line in (etc / "grant.key").read_text().splitlines()] == ["2"]


def test_files_that_the_warden_refuses_rotate_nothing(registered, etc, admin_token):
    """Else the relay would sign with a key that the warden never takes up."""
    before = (etc / "grant.key").read_text()
    policy = etc / "policy.toml"
    text = policy.read_text()
    policy.write_text(f"minimum_udi = 3\n{text}")
    done = registered.try_("rotate-key", "test", "--now", MEP_TOKEN=admin_token)
    assert done.returncode == 1
    assert "unknown key minimum_udi" in done.stderr
    assert (etc / "grant.key").read_text() == before
    policy.write_text(text)
    registered("rotate-key", "test", "--now", MEP_TOKEN=admin_token)
    assert (etc / "grant.key").read_text().split()[0] == "2"


def test_a_user_s_token_rotates_nothing(registered, etc, relay):
    before = (etc / "grant.key").read_text()
    done = registered.try_("rotate-key", "test", MEP_TOKEN=relay.token("cli-stranger"))
    assert done.returncode == 1
    assert "administrator" in done.stderr
    assert (etc / "grant.key").read_text() == before
