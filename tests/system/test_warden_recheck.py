"""Who may go on: denials, changes of policy, mapping and accounts while a user endpoint runs."""

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warden_harness import (
    Peer,
    Warden,
    exit_of,
    granted,
    identity,
    name_of,
    refused,
    renamed,
    started,
    until,
    wish,
)

from mep.manager.packets import Exited
from mep.root import children

pytestmark = pytest.mark.root

ALICE, BOB = identity("alice"), identity("bob")


def begin(warden: Warden, peer: Peer, boot_id: str, *people: Any) -> str:
    """A user endpoint that is up."""
    start = granted(boot_id, *people, options=wish("wait"))
    peer.say(start)
    told = started(peer.hear())
    assert warden.up()[:2] == (name_of(start), told.pid)
    return name_of(start)


def look(warden: Warden) -> None:
    """What `mep recheck` does."""
    for record in children.living(str(warden.base / "state")):
        os.kill(record.leader, signal.SIGHUP)


def ended(peer: Peer, name: str) -> None:
    assert peer.hear() == Exited(name, -signal.SIGTERM, "")


def why(warden: Warden) -> str:
    return str(next(one["why"] for one in warden.audit() if one["event"] == "ending"))


@pytest.mark.parametrize("word", ["{account}", "alice@example.edu", "Alice@Example.EDU", "{id}"])
def test_whom_a_denial_meets(warden: Warden, word: str) -> None:
    """By account, username or identity; what runs ends at once, and others go on."""
    warden.start()
    alice = warden.accounts["alice"].pw_name
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        other = begin(warden, peer, boot_id, BOB)
        entry = word.format(account=alice, id=ALICE["id"])
        warden.write("denied", f"# 2026-11-29 a reason\n{entry}\n")
        look(warden)
        ended(peer, name)
        assert why(warden).startswith("mep deny: ")
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
        warden.write("denied", "")
        peer.say(granted(boot_id, ALICE))
        started(peer.hear())
        assert other in [
            one.user_endpoint_id for one in children.living(str(warden.base / "state"))
        ]


def test_a_denied_identity_counts_even_if_another_one_is_mapped(warden: Warden) -> None:
    warden.write("denied", f"{BOB['id']}\n")
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, ALICE, BOB | {"status": "unused"}))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"


def test_a_list_of_denials_that_others_can_write_lets_nobody_in(warden: Warden) -> None:
    warden.write("denied", "", 0o666)
    warden.set_policy()
    warden.map()
    done = subprocess.run(
        warden.command(), pass_fds=(warden.listener.fileno(),), env={}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "others can change" in done.stderr


@pytest.mark.parametrize("rule", ["deny_users", "allow_users", "minimum_uid", "deny_groups"])
def test_a_policy_that_does_not_allow_it_any_more(warden: Warden, rule: str) -> None:
    """Seen by the leaders themselves, without anybody telling them."""
    warden.start(recheck_s=1)
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        value = {"deny_users": [alice.pw_name], "deny_groups": [alice.pw_name]}.get(rule, [])
        warden.set_policy(**{rule: 60000 if rule == "minimum_uid" else value})
        ended(peer, name)
    assert why(warden).endswith(f": {rule}")


def test_a_mapping_that_names_somebody_else(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        bob = warden.accounts["bob"].pw_name
        rule = {"source": "{username}", "match": "alice@example\\.edu", "output": bob}
        warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
        look(warden)
        ended(peer, name)
    assert why(warden).startswith("now it is ")


def test_what_the_mapping_says_is_recorded_once_for_each_mapping(warden: Warden) -> None:
    """With the rule that decided; looks in between, which ask nobody, leave no record."""
    warden.start()
    alice = warden.accounts["alice"].pw_name
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        look(warden)
        rule = {"source": "{id}", "match": ALICE["id"], "output": alice}
        warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
        look(warden)
        until(lambda: warden.count("mapped") == 2)
        look(warden)
        warden.write("denied", f"{alice}\n")
        look(warden)
        ended(peer, name)
    first, second = [one for one in warden.audit() if one["event"] == "mapped"]
    for one in (first, second):
        who = one["user_endpoint_id"], one["identity"], one["account"]
        assert who == (name, ALICE["id"], alice)
    assert json.loads(first["rule"].partition(": ")[2])["match"] == "alice@example\\.edu"
    assert second["rule"].startswith("$[0].mappings[0]: ")
    assert ALICE["id"] in second["rule"]


def test_a_change_counts_even_if_it_cannot_be_written_down(warden: Warden) -> None:
    """An audit log that fails at that moment lets nobody stay on an account that is not theirs."""
    warden.start(recheck_s=1)
    log = warden.base / "log/audit.log"
    with warden.manager_connected() as (peer, boot_id):
        begin(warden, peer, boot_id, ALICE)
        (record,) = children.living(str(warden.base / "state"))
        log.rename(log.with_suffix(".before"))
        log.symlink_to("/dev/null")
        bob = warden.accounts["bob"].pw_name
        rule = {"source": "{username}", "match": "alice@example\\.edu", "output": bob}
        warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
        until(lambda: not Path(f"/proc/{record.pid}").exists())


def test_a_mapping_that_names_nobody(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": []})
        look(warden)
        ended(peer, name)


@pytest.mark.parametrize("file", ["policy.toml", "identity_mapping.json", "parent.json"])
def test_a_file_that_makes_no_sense_ends_nobody(warden: Warden, file: str) -> None:
    """Nobody can say whether it may go on, and starts fail meanwhile."""
    warden.start(recheck_s=1)
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        good = (warden.etc / file).read_text()
        warden.write(file, "{ nonsense")
        look(warden)
        until(lambda: warden.count("settings-refused") == 1)
        warden.write(file, good)
        warden.write("denied", "alice@example.edu\n")
        ended(peer, name)


def test_a_group_that_is_gone_ends_nobody(warden: Warden) -> None:
    warden.start(recheck_s=1)
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        warden.set_policy(deny_groups=["no-such-group-here"])
        look(warden)
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "START_FAILED"
        warden.set_policy(deny_groups=[], deny_users=["*"])
        warden.write("denied", "alice@example.edu\n")
        ended(peer, name)


@pytest.mark.parametrize("change", [["usermod", "--lock"], ["usermod", "--expiredate", "1"]])
def test_an_account_that_is_locked(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd], change: list[str]
) -> None:
    account = warden.accounts["carol"] = new_account("carol")
    warden.start(recheck_s=1)
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, identity("carol"))
        subprocess.run([*change, account.pw_name], check=True, timeout=60)
        ended(peer, name)
    assert why(warden).startswith(f"account '{account.pw_name}': ")


def test_an_account_that_is_removed(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    """Ends what runs as its uid; the directory is asked twice, for it may just be restarting."""
    account = warden.accounts["carol"] = new_account("carol")
    warden.start(recheck_s=1)
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, identity("carol"))
        with renamed(account.pw_name, f"{account.pw_name}x"):
            ended(peer, name)
    assert why(warden).startswith("no account ")


def test_an_adopted_one_is_looked_at_too(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        begin(warden, peer, boot_id, ALICE)
    warden.end(signal.SIGKILL)
    (record,) = children.living(str(warden.base / "state"))
    warden.write("denied", "alice@example.edu\n")
    look(warden)
    exit_of(record.leader)
    exit_of(record.pid)


def test_what_ignores_its_end_is_killed(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE, options=wish("ignore"))
        peer.say(start)
        started(peer.hear())
        name, _, grandchild = warden.up()
        warden.write("denied", "alice@example.edu\n")
        look(warden)
        assert peer.hear() == Exited(name, -signal.SIGKILL, "")
        exit_of(grandchild)


def test_a_leader_that_is_killed_takes_its_user_endpoint_along(warden: Warden) -> None:
    """Nobody could end it, and its account would count as free."""
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE)
        (record,) = children.living(str(warden.base / "state"))
        os.kill(record.leader, signal.SIGKILL)
        exit_of(record.pid)
        assert peer.hear() == Exited(name, None, "")
        assert warden.count("leader-lost") == 1
        peer.say(granted(boot_id, ALICE, user_endpoint_id=name))
        started(peer.hear())


def test_a_user_cannot_signal_the_leader(warden: Warden) -> None:
    script = (
        "import os, signal\n"
        "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):\n"
        "    try: os.kill(os.getppid(), number); print('SENT')\n"
        "    except PermissionError: print('no')\n"
        "try: open(f'/proc/{os.getppid()}/environ').read(); print('READ')\n"
        "except PermissionError: print('no')\n"
    )
    warden.start(endpoint_command=["/usr/bin/python3", "-I", "-S", "-c", script])
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        assert peer.hear() == Exited(name_of(start), 0, "")
    log = Path(warden.accounts["alice"].pw_dir, ".mep", name_of(start), "stderr.log")
    assert log.read_text() == "no\n" * 4


def test_records_say_who_runs(warden: Warden) -> None:
    """For `mep status` and `mep deny`, whether a warden runs or not."""
    warden.start()
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        name = begin(warden, peer, boot_id, ALICE, BOB | {"status": "unused"})
    (record,) = children.living(str(warden.base / "state"))
    assert (record.user_endpoint_id, record.account, record.uid) == (
        name, alice.pw_name, alice.pw_uid,
    )  # fmt: skip
    assert record.person == sorted([ALICE["id"], BOB["id"]])
    assert Path(f"/proc/{record.leader}").stat().st_uid == 0
    assert json.loads((warden.base / "state" / name).read_text())[0] == name
