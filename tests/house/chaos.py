"""A house and a laptop in two network namespaces; everything that can go wrong between them does.

Run as root in a network namespace of its own: ``unshare --net python chaos.py JSON``, where JSON
names a directory that root trusts and throw-away accounts. Prints one line of JSON: what the laptop
saw, and how often each task ran.
"""

import json
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from house import BIN, DOMAIN, Relay, Site, run, until

TASKS = 5000
RESTARTS = 20
STOPPED_S = 60
CUT_S = 8
HERE, THERE = "10.98.0.1", "10.98.0.2"
LIMIT_S = 400
LAPTOP = Path(__file__).with_name("chaos_laptop.py")


@contextmanager
def cable() -> Iterator[int]:
    """A namespace for the laptop; yields a process that holds it."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", str(LIMIT_S + 60)])
    try:
        until(lambda: _namespace(holder.pid) != _namespace("self"), "a namespace")
        run(*f"ip link add near type veth peer name far netns {holder.pid}".split())
        run(*f"ip addr add {HERE}/24 dev near".split())
        run(*["ip", "link", "set", "near", "up"])
        inside = f"nsenter --target {holder.pid} --net ip".split()
        run(*inside, *f"addr add {THERE}/24 dev far".split())
        run(*inside, *["link", "set", "far", "up"])
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def _namespace(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def restart(relay: Relay) -> None:
    """Twenty times, every other time as a power cut would; all tokens expire thrice meanwhile."""
    for number in range(RESTARTS):
        if number % 2:
            relay.kill()
        else:
            relay.stop()
        if number in (3, 9, 19):
            expire_tokens(relay.data)
        relay.start()
        time.sleep(1.5)  # a fault's place in time: nothing is waited for


def expire_tokens(data: Path) -> None:
    database = sqlite3.connect(data / "relay.sqlite3", timeout=20)
    with database:
        expired = "UPDATE tokens SET expires = 1 WHERE user_id IS NOT NULL AND expires IS NOT NULL"
        database.execute(expired)
    database.close()


def cut() -> None:
    """Once before the laptop is closed, once after it."""
    for pause in (3, STOPPED_S + 7):
        time.sleep(pause)
        run("ip", "link", "set", "near", "down")
        time.sleep(CUT_S)
        run("ip", "link", "set", "near", "up")


def suspend(laptop: int) -> None:
    time.sleep(CUT_S + 5)
    os.kill(laptop, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    os.kill(laptop, signal.SIGCONT)


def main(place: dict[str, Any]) -> dict[str, Any]:
    run("ip", "link", "set", "lo", "up")
    root = Path(place["root"])
    data = root / "relay" / "data"
    data.parent.mkdir(mode=0o700)
    run(BIN / "mep-relay", "init", data, "--domain", DOMAIN)
    ran = Path(pwd.getpwnam(place["user"]).pw_dir, "ran")
    with ExitStack() as stack:
        # The laptop's network is another.
        relay = Relay(data, arguments=("--host", "0.0.0.0", "--insecure-http"))
        relay.start()
        stack.callback(relay.stop)
        client = run(BIN / "mep-relay", "client", "create", "laptop", "--data", data, "--json")
        made = json.loads(client)
        site = Site(root, "chaos", relay, {}, place["manager"], place["callout"])
        site.configure()
        site.map({"source": "{username}", "match": made["username"], "output": place["user"]})
        site.register()
        site.start()
        stack.callback(site.stop)
        report = chaos(relay, site, stack.enter_context(cable()), made, ran)
    counts = Counter(ran.read_text().split())
    report["executed"] = len(counts)
    report["doubled"] = sum(count > 1 for count in counts.values())
    return report


def chaos(
    relay: Relay, site: Site, namespace: int, made: dict[str, str], ran: Path
) -> dict[str, Any]:
    laptop = subprocess.Popen(
        [
            *("nsenter", "--target", str(namespace), "--net"),
            *(sys.executable, str(LAPTOP), site.endpoint_id, str(TASKS), str(ran)),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "MEP_RELAY_URL": f"http://{HERE}:{relay.port}",
            "MEP_INSECURE_HTTP": "1",
            "MEP_CLIENT_ID": made["client_id"],
            "MEP_CLIENT_SECRET": made["client_secret"],
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert laptop.stdout is not None
        assert laptop.stdout.readline() == "ready\n"
        faults = [
            threading.Thread(target=restart, args=(relay,)),
            threading.Thread(target=cut),
            threading.Thread(target=suspend, args=(laptop.pid,)),
        ]
        for fault in faults:
            fault.start()
        said = laptop.communicate(timeout=LIMIT_S)[0]
        for fault in faults:
            fault.join()
    finally:
        laptop.kill()
        laptop.wait()
    report: dict[str, Any] = json.loads(said)
    return report


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
