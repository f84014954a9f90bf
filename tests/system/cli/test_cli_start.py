"""`mep start` and `mep stop` with real wardens and managers, as root and as a plain account."""

import json
import os
import signal
import stat
import uuid
from pathlib import Path

import pytest
from cli_site import kill9, pids_gone
from testbed import until

pytestmark = pytest.mark.root


def pids(status) -> tuple[int, int, int]:
    return tuple(status[name]["pid"] for name in ("supervisor", "warden", "manager"))


def linked(mep):
    """The status once the relay is there: a start waits for it no longer than a moment."""
    return until(
        lambda: (now := mep.status("test"))["relay"]["state"] == "up" and now, "the relay", 60
    )


def uids_of(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {int(uid) for uid in text.partition("Uid:")[2].splitlines()[0].split()}


def environment_of(pid: int) -> dict[str, str]:
    items = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(item.split("=", 1) for item in items if item)


def test_detached_from_start_to_stop(mep, etc, admin_token):
    said = mep("start", "test", "--detach", MEP_TOKEN=admin_token)
    endpoint_id = json.loads((etc / "parent.json").read_text())["endpoint_id"]
    assert said.splitlines()[0] == f"registered ID: {endpoint_id}"
    status = linked(mep)
    assert status["running"]
    assert status["warden"]["state"] == "up"
    supervisor, warden, manager = pids(status)
    assert uids_of(supervisor) == uids_of(warden) == {0}
    assert uids_of(manager) == {Path(mep.environment["MEP_PREFIX"], "run/mep/test").stat().st_uid}
    assert 0 not in uids_of(manager)
    for pid in (supervisor, warden, manager):
        assert admin_token not in environment_of(pid).values()
    assert set(environment_of(warden)) == {"PATH", "LANG"}
    (row,) = json.loads(mep("list", "--json"))
    assert (row["name"], row["running"], row["endpoint_id"]) == ("test", True, endpoint_id)
    second = mep.try_("start", "test")
    assert second.returncode == 1
    assert "running already" in second.stderr
    assert mep("stop", "test") == "test is stopped\n"
    pids_gone(supervisor, warden, manager, seconds=0)
    assert mep.try_("status", "test").returncode == 3
    assert mep.try_("stop", "test").returncode == 3


def test_directories_have_their_owners_and_modes(registered, site_root):
    registered("start", "test", "--detach")
    manager = (site_root / "run/mep/test").stat().st_uid
    expected = {
        "var/lib/mep/test": (manager, 0o700),
        "run/mep/test": (manager, 0o711),
        "var/log/mep/test": (manager, 0o750),
        "run/mep/test/events.sock": (manager, 0o666),
        "run/mep/test/status.json": (manager, 0o644),
        "var/lib/mep-warden": (0, 0o700),
        "var/lib/mep-warden/test": (0, 0o700),
        "run/mep-warden/test": (0, 0o755),
        "var/log/mep-warden/test": (0, 0o700),
        "var/log/mep-warden/test/mep.log": (0, 0o600),
    }
    found = {path: (site_root / path).stat() for path in expected}
    assert {p: (s.st_uid, stat.S_IMODE(s.st_mode)) for p, s in found.items()} == expected


def test_in_the_foreground_until_ctrl_c(registered):
    process = registered.begin("start", "test")
    assert process.stdout.readline().startswith("registered ID: ")
    assert "test is running" in process.stdout.readline()
    children = pids(registered.status("test"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("stopped\n")
    assert "Traceback" not in err
    pids_gone(*children, seconds=0)


def test_json_is_one_object(registered):
    answer = json.loads(registered("start", "test", "--detach", "--json"))
    assert answer["relay"] in ("up", "connecting")
    assert answer["pid"] == linked(registered)["supervisor"]["pid"]


@pytest.mark.parametrize("victim", ["warden", "manager"])
def test_what_dies_is_started_again(registered, victim):
    process = registered.begin("start", "test")
    process.stdout.readline()
    process.stdout.readline()
    before = registered.status("test")
    kill9(before[victim]["pid"])
    line = process.stdout.readline()
    assert f"the {victim} ended with signal 9" in line
    # The manager tells on stderr when both are there for each other again.
    while "the warden is connected" not in process.stderr.readline():
        assert process.poll() is None
    while "the warden is connected" not in process.stderr.readline():
        assert process.poll() is None
    after = registered.status("test")
    assert after["supervisor"] == before["supervisor"]
    assert after[victim]["pid"] != before[victim]["pid"]
    process.terminate()
    process.communicate(timeout=60)


def test_a_killed_supervisor_takes_both_along_and_the_next_start_works(registered):
    registered("start", "test", "--detach")
    supervisor, warden, manager = pids(registered.status("test"))
    kill9(supervisor)
    pids_gone(warden, manager)
    assert not registered.status("test")["running"]
    registered("start", "test", "--detach")
    assert registered.status("test")["running"]


def test_a_bad_policy_is_shown_where_it_was_typed(registered, etc):
    with (etc / "policy.toml").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write("minimum_uidd = 5\n" + text)
    done = registered.try_("start", "test", "--detach")
    assert done.returncode == 1
    assert "minimum_uidd" in done.stderr
    assert not registered.status("test")["running"]


def test_a_bad_configuration_is_shown_before_anything_starts(registered, etc):
    with (etc / "config.yaml").open("a") as file:
        file.write("heartbeat_periode: 5\n")
    done = registered.try_("start", "test", "--detach")
    assert done.returncode == 1
    assert "did you mean 'heartbeat_period'" in done.stderr
    assert "heartbeat_periode" in registered.try_("prepare", "test").stderr


def test_a_changed_configuration_reaches_parent_json(registered, etc):
    with (etc / "config.yaml").open("a") as file:
        file.write("public: true\n")
    registered("prepare", "test")
    assert json.loads((etc / "parent.json").read_text())["settings"]["public"] is True


def test_what_the_relay_was_not_told_is_said(registered, etc, admin_token):
    """And a restriction that the relay alone enforces starts nothing before it is told."""
    settings = etc / "config.yaml"
    text = settings.read_text()
    settings.write_text(f"{text}\ndisplay_name: other\n")
    assert "told of display_name, which" in registered.try_("prepare", "test").stderr
    assert "told of display_name, which" in registered("check", "test")
    policy = str(uuid.uuid4())
    settings.write_text(f"{text}\nauthentication_policy: {policy}\n")
    for verb in ("prepare", "start", "check"):
        done = registered.try_(verb, "test")
        assert done.returncode == 1
        assert "`mep register test` again" in done.stderr + done.stdout
    settings.write_text(f"{text}\ndisplay_name: other\n")
    registered("register", "test", MEP_TOKEN=admin_token)
    assert registered.try_("prepare", "test").stderr == ""
    assert "told of" not in registered("check", "test")


def test_reload_applies_a_changed_configuration(registered, etc):
    process = registered.begin("start", "test")
    process.stdout.readline()
    process.stdout.readline()
    with (etc / "config.yaml").open("a") as file:
        file.write("debug: true\n")
    process.send_signal(signal.SIGHUP)
    while "read again" not in process.stderr.readline():
        assert process.poll() is None
    assert json.loads((etc / "parent.json").read_text())["debug"] is True
    process.terminate()
    process.communicate(timeout=60)


def test_an_owner_runs_both_without_privilege(plain, relay):
    plain("configure", "test", "--relay-url", relay.url)
    plain("start", "test", "--detach", MEP_TOKEN=relay.token("cli-runner"))
    status = linked(plain)
    assert not status["multi_user"]
    for pid in pids(status):
        assert uids_of(pid) == {plain.account.pw_uid}
    plain("stop", "test")
    pids_gone(*pids(status), seconds=0)


def test_nothing_is_inherited_by_the_detached(registered):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        registered("start", "test", "--detach")
        for pid in pids(registered.status("test")):
            links = [os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()]
            assert os.readlink(f"/proc/self/fd/{writing}") not in links
    finally:
        os.close(reading)
        os.close(writing)
