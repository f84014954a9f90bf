"""An engine and its node pool in two network namespaces, whose network is away for a while.

Run as root in a network namespace of its own: ``unshare --net python partition.py DIRECTORY``.
Prints one line of JSON: how tasks ended, how often each ran.
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from engine_harness import engine, until

TASKS = 60
AWAY_S = 2.5


def slow(path: str, text: str) -> str:
    """Counts its executions."""
    import time

    time.sleep(0.03)
    with open(path, "a") as file:
        file.write(text + "\n")
    return text


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


def wire(node: int) -> None:
    """A cable from this namespace to that of a process."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(node))
    run("ip", "addr", "add", "10.99.0.1/24", "dev", "near")
    run("ip", "link", "set", "near", "up")
    inside = ("nsenter", "--target", str(node), "--net", "ip")
    run(*inside, "addr", "add", "10.99.0.2/24", "dev", "far")
    run(*inside, "link", "set", "far", "up")


def namespace_of(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def main(directory: Path) -> None:
    node = subprocess.Popen(["unshare", "--net", "sleep", "150"])
    until(lambda: namespace_of(node.pid) != namespace_of("self"), "a namespace")
    wire(node.pid)
    ran = directory / "ran"
    home = directory / "home"
    home.mkdir(mode=0o700)
    with engine(
        home,
        transport="tcp",
        address={"type": "address_by_interface", "ifname": "near"},
        provider={"worker_init": f'exec nsenter --target {node.pid} --net "$@"'},
        max_workers_per_node=2,
        heartbeat_period=0.5,
        heartbeat_threshold=30,
    ) as one:
        ids = one.submit_many(slow, [(str(ran), str(n)) for n in range(TASKS)])
        one.wait(lambda: len(one.results) >= 5, "the first results")
        run("ip", "link", "set", "near", "down")
        at = len(one.results)
        threading.Event().wait(AWAY_S)
        came = len(one.results) - at
        run("ip", "link", "set", "near", "up")
        one.wait(lambda: len(one.results) >= len(ids), "all results")
        outcomes = [(result.task_id, result.outcome) for result in one.results]
    node.terminate()
    node.wait()
    executions = Counter(ran.read_text().split())
    print(json.dumps({"outcomes": outcomes, "executions": executions, "meanwhile": came}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
