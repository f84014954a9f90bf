"""Users' processes when an endpoint stops: ended, ended at once, or left running."""

import os
import select
import signal
from pathlib import Path

import pytest
from cli_site import begin, pids_gone, user_endpoint
from testbed import until

pytestmark = pytest.mark.root

STUBBORN = """endpoint_command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 60; done"]
stop_grace_s = 600
"""


def stubborn(etc):
    policy = etc / "policy.toml"
    text = policy.read_text().replace("stop_grace_s = 10", "#stop_grace_s = 10")
    policy.write_text(STUBBORN + text)


def ignores(pid: int, number: int) -> bool:
    text = Path(f"/proc/{pid}/status").read_text()
    return bool(int(text.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1)


def test_ctrl_c_ends_users_processes_too(registered, etc, alice, client):
    process = begin(registered)
    pid = user_endpoint(registered, etc, client, alice, process.stderr)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    pids_gone(pid, seconds=0)


def test_a_second_ctrl_c_ends_them_at_once(registered, etc, alice, client):
    stubborn(etc)
    process = begin(registered)
    pid = user_endpoint(registered, etc, client, alice, process.stderr)
    until(lambda: ignores(pid, signal.SIGTERM), "the trap is set")
    process.send_signal(signal.SIGINT)
    assert "a moment to end" in process.stdout.readline()
    assert Path(f"/proc/{pid}").exists()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    pids_gone(pid, seconds=0)


def test_users_processes_can_be_kept_and_are_found_again(registered, etc, alice, client):
    process = begin(registered)
    pid = user_endpoint(registered, etc, client, alice, process.stderr)
    kept = os.pidfd_open(pid)
    try:
        assert "processes of users go on" in registered("stop", "test", "--keep-users")
        process.communicate(timeout=60)
        status = registered.status("test")
        assert not status["running"]
        assert [user["pid"] for user in status["user_endpoints"]] == [pid]
        registered("start", "test", "--detach")
        (user,) = registered.status("test")["user_endpoints"]
        assert (user["pid"], user["account"]) == (pid, alice.pw_name)
        assert not select.select([kept], [], [], 0)[0]
        registered("stop", "test")
        assert select.select([kept], [], [], 0)[0]
    finally:
        os.close(kept)
