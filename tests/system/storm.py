"""Injected faults, counted: a relay that does its part, what is ended by whom, what ran how often.

N tasks in, N ends out, none lost, none twice; and a line in a file for each execution.
"""

import contextlib
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from endpoint_house import Connection, ForgetfulRelay
from engine_harness import as_in_a_script
from websockets.exceptions import ConnectionClosed

from mep import payload
from mep.wire.codec import Message
from mep.wire.tasks import Function, Result, Task
from mep.wire.to_endpoint import Committed, Credit, Results, Tasks

BATCH = 200


def noted(path: str, name: str, seconds: float) -> str:
    """The task: leaves a line for each time that it is run."""
    import os
    import time

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)
    time.sleep(seconds)
    return name


def large(path: str, name: str) -> bytes:
    """As :func:`noted`, with a result that fills disks."""
    import os

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)
    return os.urandom(50_000)


LARGE = Function("large", payload.dump_function(as_in_a_script(large)))
NOTED = Function("noted", payload.dump_function(as_in_a_script(noted)))


def calls(log: Path, names: Sequence[str], seconds: float) -> list[Task]:
    return [
        Task(name, "noted", "g", payload.dump_arguments((str(log), name, seconds), {}))
        for name in names
    ]


def large_calls(log: Path, names: Sequence[str]) -> list[Task]:
    return [
        Task(name, "large", "g", payload.dump_arguments((str(log), name), {})) for name in names
    ]


def executions(log: Path) -> Counter[str]:
    return Counter(log.read_text().split()) if log.exists() else Counter()


@dataclass
class Tally:
    """What became of the tasks."""

    tasks: dict[str, Task]
    ends: dict[str, Result] = field(default_factory=dict)
    contradictions: list[tuple[Result, Result]] = field(default_factory=list)
    """Two ends of one task that differ."""
    unasked: list[Result] = field(default_factory=list)

    def take(self, results: Sequence[Result]) -> None:
        for result in results:
            first = self.ends.setdefault(result.task_id, result)
            if first != result:
                self.contradictions.append((first, result))
            if result.task_id not in self.tasks:
                self.unasked.append(result)

    def verify(self, log: Path, allowed: set[str], retries: int = 0) -> Counter[str]:
        """Every task has one end, none another, none ran more often than it may; how they ended."""
        assert self.ends.keys() == self.tasks.keys()
        assert not self.contradictions
        assert not self.unasked
        ran = executions(log)
        assert not ran or max(ran.values()) <= 1 + retries
        outcomes: Counter[str] = Counter()
        for task_id, result in self.ends.items():
            outcomes[result.failure.code if result.failure else result.outcome] += 1
            if result.outcome == "success":
                assert payload.load_result(result.payload) == task_id
                assert ran[task_id] >= 1
        assert outcomes.keys() <= {"success", *allowed}, outcomes
        return outcomes


class DutifulRelay:
    """Sends what is not held, as credits allow, and commits results if it is told to.

    Serves one endpoint over all its connections, in a thread of its own.
    """

    def __init__(
        self,
        relay: ForgetfulRelay,
        tasks: Sequence[Task],
        commits: bool = True,
        function: Function = NOTED,
    ) -> None:
        self.tally = Tally({task.task_id: task for task in tasks})
        self.commits = commits
        self.connections = 0
        self._relay = relay
        self._function = function
        self._orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait(self, condition: Callable[[], Any], limit_s: float, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, limit_s), f"never came: {what}"

    def wait_for_ends(self, count: int, limit_s: float = 60.0) -> None:
        self.wait(lambda: len(self.tally.ends) >= count, limit_s, f"{count} ends")

    def commit_all(self) -> None:
        self.commits = True
        self._orders.put(Committed(tuple(self.tally.ends)))

    def add(self, tasks: Sequence[Task], function: Function) -> None:
        self.tally.tasks.update((task.task_id, task) for task in tasks)
        self._orders.put(Tasks((function,), tuple(tasks)))

    def close(self) -> None:
        self._over = True
        self._thread.join(60)

    def _serve(self) -> None:
        while not self._over:
            # It may be killed while it is spoken to; its next hello says what it has.
            with contextlib.suppress(queue.Empty, ConnectionClosed):
                self._converse(self._relay.accept(0.2))

    def _converse(self, link: Connection) -> None:
        with self._changed:
            self.connections += 1
            self._changed.notify_all()
        held = set(link.hello.held)
        todo = [t for i, t in self.tally.tasks.items() if i not in held | self.tally.ends.keys()]
        credit, body = link.hello.credit, (self._function,)
        while not self._over:
            while not self._orders.empty():
                link.send(self._orders.get())
            batch, todo = todo[: min(credit, BATCH)], todo[min(credit, BATCH) :]
            if batch:
                link.send(Tasks(body, tuple(batch)))
                credit, body = credit - len(batch), ()
            try:
                message = link.get(0.0 if todo and credit else 0.2)
            except queue.Empty:
                continue
            if message is None:
                return
            if isinstance(message, Credit):
                credit += message.tasks
            elif isinstance(message, Results):
                self._take(link, message)

    def _take(self, link: Connection, message: Results) -> None:
        with self._changed:
            self.tally.take(message.results)
            self._changed.notify_all()
        if self.commits:
            link.send(Committed(tuple(result.task_id for result in message.results)))


class Storm:
    """Ends processes of a user endpoint at random, until it is over.

    Args:
        seed: of chance.
        endpoint: the process id of the user endpoint.
        revive: starts it again.
    """

    def __init__(self, seed: int, endpoint: Callable[[], int], revive: Callable[[], Any]) -> None:
        self.struck: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._endpoint = endpoint
        self._revive = revive

    def rage(self, seconds: float, over: threading.Event) -> None:
        """Strike again and again, for so many seconds or until `over`."""
        left_s = seconds
        while left_s > 0 and not over.is_set():
            pause_s = self._chance.uniform(0.2, 1.0)
            over.wait(pause_s)
            left_s -= pause_s
            self.strike()

    def strike(self) -> None:
        """Kill a worker (mostly), a fork server, a node pool, or the user endpoint."""
        kind = self._chance.choices(
            ["worker", "fork server", "node pool", "endpoint"], [6, 1, 2, 1]
        )[0]
        victims = self._processes().get(kind, [])
        if not victims:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            self._chance.choice(victims).kill()
            self.struck[kind] += 1
        if kind == "endpoint":
            self._revive()

    def _processes(self) -> dict[str, list[psutil.Process]]:
        """Itself, its node pools, and what descends from them."""
        found: dict[str, list[psutil.Process]] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            endpoint = psutil.Process(self._endpoint())
            found["endpoint"] = [endpoint]
            for pool in endpoint.children():
                found.setdefault("node pool", []).append(pool)
                for server in pool.children():
                    found.setdefault("fork server", []).append(server)
                    found.setdefault("worker", []).extend(server.children())
        return found
