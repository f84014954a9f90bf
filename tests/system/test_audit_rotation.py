"""logrotate, as packages set it up, and a manager that is reported to all the while."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_house import until
from manager_alone import manager_alone

pytestmark = pytest.mark.root
CONFIG = Path(__file__).parents[2] / "packaging/logrotate/hpc-mep"
SENDERS, EACH, FEW, TURNS = 4, 3_000, 10, 6


@pytest.fixture
def manager(site_root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with manager_alone(site_root) as process:
        yield process


def config_of(top: Path, pid: int) -> str:
    """The packages' file, with this site's paths and a signal without systemd."""
    text = CONFIG.read_text()
    manager = text[text.index("/var/log/mep/*") :]
    changed = manager.replace("/var/log/mep/*", str(top / "log"))
    changed = changed.replace("su mep mep", "su root root")
    return re.sub(r"systemctl .*", f"kill -HUP {pid}", changed)


def report(path: Path, sender: int, count: int = EACH) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(str(path))
        for number in range(count):
            event = {"event": "x", "at": 1.0, "task_id": f"{sender}-{number}"}
            body = {"user_endpoint_id": "u", "identity_id": "i", "events": [event]}
            manager.send(json.dumps(body).encode())


def test_logrotate_loses_no_line(manager: "subprocess.Popen[bytes]", site_root: Path) -> None:
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if logrotate is None:
        pytest.skip("needs logrotate (package logrotate)")
    config, state = site_root / "logrotate.conf", site_root / "state/logrotate"
    config.write_text(config_of(site_root, manager.pid))
    config.chmod(0o644)
    sending = [
        threading.Thread(target=report, args=(site_root / "run/events.sock", sender))
        for sender in range(SENDERS)
    ]
    for thread in sending:
        thread.start()
    events = site_root / "log/events.jsonl"
    for turn in range(TURNS):
        until(lambda: events.exists() and events.stat().st_size > 0)
        done = subprocess.run(
            [logrotate, "--force", "--state", str(state), str(config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        until(events.exists)
        report(site_root / "run/events.sock", SENDERS + turn, FEW)  # something for the next turn
    for thread in sending:
        thread.join()

    def written() -> list[str]:
        texts = (read(path) for path in (site_root / "log").iterdir())
        # The last line may be half written yet.
        whole = (text[: text.rfind("\n") + 1] for text in texts)
        lines = [json.loads(line) for text in whole for line in text.splitlines()]
        return sorted(line["event"]["task_id"] for line in lines)

    sent = [*[EACH] * SENDERS, *[FEW] * TURNS]
    expected = sorted(f"{sender}-{n}" for sender, count in enumerate(sent) for n in range(count))
    until(lambda: len(written()) >= len(expected))
    assert written() == expected
    assert any(path.suffix == ".gz" for path in (site_root / "log").iterdir())
    assert manager.poll() is None


def read(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def test_both_logs_are_rotated_by_whom_they_belong_to() -> None:
    """Root writes nothing beneath the manager's directory, not even by logrotate."""
    text = CONFIG.read_text()
    warden, manager = text.split("/var/log/mep/*/events.jsonl")
    assert "/var/log/mep-warden/*/audit.log" in warden
    assert "su mep mep" in manager
    for part in (warden, manager):
        assert "copytruncate" not in part
        assert "delaycompress" in part
