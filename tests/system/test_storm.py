"""Faults of all kinds under load, counted: N tasks, N ends, none lost, none run twice unasked."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_house import ForgetfulRelay, Site, until
from storm import LARGE, NOTED, DutifulRelay, Storm, calls, executions, large_calls

STORM_S = float(os.environ.get("MEP_STORM_S", "60"))
"""How long the great storm rages."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    relay = ForgetfulRelay()
    made = Site(tmp_path, relay, command=("-m", "mep.endpoint"))
    made.template = "engine: {type: GlobusComputeEngine, max_workers_per_node: 2}\n"
    try:
        yield made
    finally:
        made.close()
        relay.close()


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def test_kill_9_of_the_user_endpoint_with_500_tasks_in_flight(site: Site, tmp_path: Path) -> None:
    """Finished results are on disk, though the relay has committed none of them."""
    log = tmp_path / "ran"
    relay = DutifulRelay(site.relay, calls(log, names(500), 0.005), commits=False)
    process = site.start()
    relay.wait_for_ends(100)
    finished = dict(relay.tally.ends)
    process.popen.kill()
    process.wait()
    relay.commits = True
    site.start()
    relay.wait_for_ends(500)
    relay.close()
    outcomes = relay.tally.verify(log, {"ENDPOINT_LOST"})
    assert {i: relay.tally.ends[i] for i in finished} == finished
    assert outcomes["success"] >= 400
    # Of those that had left for a worker, no more than one node pool holds are lost.
    assert outcomes["ENDPOINT_LOST"] <= 100


@pytest.mark.root
def test_a_full_disk_for_the_spool(site: Site, tmp_path: Path) -> None:
    """Results live in memory then; when nothing fits any more nothing begins; then it goes on."""
    log = tmp_path / "ran"
    small = Path(__file__).with_name("endpoint_on_a_small_disk.py")
    site.command = (str(small), "2m", str(site.directory))
    relay = DutifulRelay(site.relay, large_calls(log, names(120)), commits=False, function=LARGE)
    process = site.start()
    relay.wait_for_ends(120)
    disk = Path(f"/proc/{process.popen.pid}/root{site.directory}")
    assert sum(len(end.payload) for end in relay.tally.ends.values()) > 2 * 1024 * 1024
    fill(disk / "filler")
    late = [f"late{number}" for number in range(400)]  # some fit into the journal's last page
    relay.add(calls(log, late, 0), NOTED)
    relay.wait_for_ends(520)
    refused = {i: end.failure for i, end in relay.tally.ends.items() if end.failure}
    assert refused
    for failure in refused.values():
        assert failure.code == "ENGINE_FAILED"
        assert "No space left" in failure.message

    (disk / "filler").unlink()
    relay.commit_all()
    relay.add(calls(log, ["after"], 0), NOTED)
    relay.wait_for_ends(521)
    relay.close()
    assert relay.tally.ends["after"].outcome == "success"
    assert executions(log) == Counter({*names(120), *late, "after"} - refused.keys())
    assert not relay.tally.contradictions
    assert process.popen.poll() is None


def fill(path: Path) -> None:
    """To the last byte."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_random_kills_of_everything(site: Site, tmp_path: Path) -> None:
    """10,000 tasks for a minute, and somebody dies every second."""
    log = tmp_path / "ran"
    count = max(200, int(10_000 * STORM_S / 60))
    relay = DutifulRelay(site.relay, calls(log, names(count), 0.01))
    over = threading.Event()
    site.start()
    relay.wait_for_ends(1)

    def revive() -> None:
        site.processes[-1].wait()
        site.start()

    storm = Storm(4711, lambda: site.processes[-1].popen.pid, revive)
    raging = threading.Thread(target=storm.rage, args=(STORM_S, over))
    raging.start()
    try:
        relay.wait_for_ends(count, limit_s=6 * STORM_S + 120)
    finally:
        over.set()
        raging.join()
        relay.close()
    outcomes = relay.tally.verify(log, {"WORKER_LOST", "ENDPOINT_LOST"})
    assert sum(storm.struck.values()) >= STORM_S / 3
    assert storm.struck.keys() >= {"worker", "node pool"}
    assert outcomes["success"] >= 0.9 * count, (outcomes, storm.struck)
    until(lambda: sum(executions(log).values()) >= outcomes["success"])
