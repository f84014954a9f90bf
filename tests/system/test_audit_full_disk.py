"""`high_assurance`: no task runs that is not in the audit log. The disk is really full."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_house import UEP, ForgetfulRelay, Site, source, tasks, until
from manager_alone import manager_alone
from websockets.exceptions import ConnectionClosed

from mep.wire.tasks import Function
from mep.wire.to_endpoint import Committed, Results

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "log"
    disk.mkdir()
    options = ("-t", "tmpfs", "-o", "size=64k,mode=0700")
    subprocess.run(["mount", *options, "mep-test", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    return filler


@pytest.fixture
def manager(tmp_path: Path, small_disk: Path) -> Iterator[Path]:
    """A manager whose logs are on the small disk; the directory of its sockets."""
    with manager_alone(tmp_path, "high_assurance: true\n"):
        yield tmp_path / "run"


@pytest.fixture
def site(tmp_path: Path, manager: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    home.mkdir()
    relay = ForgetfulRelay()
    made = Site(home, relay)
    made.parent["settings"] = {"high_assurance": True}
    made.facts["events_socket"] = str(manager / "events.sock")
    try:
        yield made
    finally:
        made.close()
        relay.close()


def recorded(disk: Path) -> list[dict[str, Any]]:
    text = (disk / "events.jsonl").read_text()
    assert text.endswith("\n"), "whole lines only"
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_nothing_runs_that_is_not_written_down(site: Site, small_disk: Path) -> None:
    ran = site.home / "ran"
    body = f"open({str(ran)!r}, 'ab').write(payload + b'\\n'); return payload"
    function = Function("f-write", source(body))
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("first", function=function))
    link.next(Results)
    link.send(Committed(("first",)))
    until(lambda: any(one["event"] == "EXEC_END" for one in recorded(small_disk)))
    names = [one["event"] for one in recorded(small_disk)]
    assert names == ["up", "RECEIVED", "EXEC_START", "RUNNING", "EXEC_END"]

    fill(small_disk)
    number = 0
    with contextlib.suppress(ConnectionClosed):
        while process.popen.poll() is None and number < 1000:
            # What is left of the last page takes a few lines more.
            link.send(tasks(f"t{number}", function=function, body=False))
            number += 1
            process_ended_within(process.popen, 0.02)
    assert process.wait() == 0
    log = (site.directory / "endpoint.log").read_text()
    assert "the audit log cannot be written" in log
    begun = {one["task_id"] for one in recorded(small_disk) if one["event"] == "EXEC_START"}
    executed = ran.read_text().split()
    assert "first" in executed
    assert len(executed) == len(set(executed))
    assert set(executed) <= begun
    assert len(begun) < number, "the last ones did not begin"


def process_ended_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_an_endpoint_does_not_come_up_without_the_log(site: Site, small_disk: Path) -> None:
    filler = fill(small_disk)
    process = site.start()
    site.relay.accept()
    assert process.wait() == 0
    assert "the audit log cannot be written" in (site.directory / "endpoint.log").read_text()
    filler.unlink()
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("t1"))
    link.next(Results)
    process.popen.send_signal(signal.SIGTERM)
    process.wait()
    seen = recorded(small_disk)
    assert seen[-1]["event"] == "stopping"
    assert {one["user_endpoint_id"] for one in seen} == {UEP}
