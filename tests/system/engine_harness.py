"""A real engine with recording callbacks: what it was told to tell, and how long to wait for it."""

import contextlib
import json
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mep import payload
from mep.endpoint.engines.base import Callbacks, Engine, EngineError, Surroundings
from mep.endpoint.engines.build import build
from mep.wire.tasks import Function, Result, StateChange, Task

LIMIT_S = 60.0


class Harness:
    """An engine in `directory`; every wait is bounded by LIMIT_S."""

    def __init__(
        self,
        directory: Path,
        max_result: int = 10_000_000,
        submitted: str = "",
        build: Callable[[Any, Surroundings, Callbacks], Engine] = build,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.starting: list[str] = []
        self.moves: list[StateChange] = []
        self.results: list[Result] = []
        self.disk_full = False
        self.resources: dict[str, Any] = {}
        """``resource_specification`` of the tasks that are submitted from now on."""
        self._changed = threading.Condition()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._serial = 0
        surroundings = Surroundings(
            str(directory), "endpoint", "user-endpoint", max_result, submitted=submitted
        )
        callbacks = Callbacks(self._journal, self._recorder(self.moves), self._take_results)
        self.engine = build(settings, surroundings, callbacks)
        self.engine.start()

    def _recorder(self, into: list[Any]) -> Callable[[Sequence[Any]], None]:
        def record(items: Sequence[Any]) -> None:
            with self._changed:
                into.extend(items)
                self._changed.notify_all()

        return record

    def _take_results(self, results: Sequence[Result]) -> None:
        self._recorder(self.results)(results)
        self.engine.safe([result.task_id for result in results])

    def _journal(self, task_ids: Sequence[str], pool_ids: Sequence[str] = ()) -> None:
        if self.disk_full:
            raise EngineError("the ledger cannot be written: No space left on device")
        self._recorder(self.starting)(task_ids)

    def submit(self, function: Callable[..., Any], *args: Any) -> str:
        return self.submit_many(function, [args])[0]

    def run_source(self, source: str, *args: Any) -> Any:
        """What `run` of `source` returns, sent as text: it needs no module of the tests."""
        function = Function("source", payload.dump_source("run", source))
        body = payload.dump_arguments(args, {})
        (task_id,) = self.submit_raw([function], "source", [body])
        result = self.result(task_id)
        assert result.outcome == "success", result
        return payload.load_result(result.payload)

    def submit_many(
        self, function: Callable[..., Any], calls: Sequence[Sequence[Any]]
    ) -> list[str]:
        function_id = f"{function.__name__}-{id(function)}"
        fresh = (
            []
            if function_id in self._functions
            else [Function(function_id, payload.dump_function(as_in_a_script(function)))]
        )
        self._functions[function_id] = function
        return self.submit_raw(fresh, function_id, [payload.dump_arguments(c, {}) for c in calls])

    def submit_raw(
        self, functions: list[Function], function_id: str, payloads: Sequence[bytes]
    ) -> list[str]:
        ids = [f"task-{self._serial + number}" for number in range(len(payloads))]
        self._serial += len(payloads)
        asked = json.dumps(self.resources).encode() if self.resources else b""
        self.engine.submit(
            functions,
            [
                Task(i, function_id, "group", body, asked)
                for i, body in zip(ids, payloads, strict=True)
            ],
        )
        return ids

    def wait(
        self,
        condition: Callable[[], Any],
        what: str = "what the test waits for",
        limit_s: float = LIMIT_S,
    ) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, limit_s), f"never came: {what}"

    def result(self, task_id: str, limit_s: float = LIMIT_S) -> Result:
        self.wait(
            lambda: any(r.task_id == task_id for r in self.results),
            f"result of {task_id}",
            limit_s,
        )
        (result,) = [r for r in self.results if r.task_id == task_id]
        return result

    def call(self, function: Callable[..., Any], *args: Any) -> Result:
        return self.result(self.submit(function, *args))

    def value(self, function: Callable[..., Any], *args: Any) -> Any:
        result = self.call(function, *args)
        assert result.outcome == "success", result
        return payload.load_result(result.payload)

    def running(self, task_id: str) -> None:
        """Wait until a worker has this task."""
        self.wait(
            lambda: any(m.task_id == task_id and m.state == "running" for m in self.moves),
            f"{task_id} running",
        )


def as_in_a_script(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as if its module were ``__main__``: dill then takes its code, not its name."""
    if not isinstance(function, types.FunctionType):
        return function
    modules = {
        n: v
        for n, v in function.__globals__.items()
        if isinstance(v, types.ModuleType) and not v.__name__.startswith("mep.")
    }
    modules["Path"] = Path
    copy = types.FunctionType(
        function.__code__, modules, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__module__ = "__main__"
    copy.__qualname__ = function.__name__
    return copy


@contextlib.contextmanager
def engine(directory: Path, **settings: Any) -> Iterator[Harness]:
    """A harness, closed at the end; after that, nothing of it may be left running."""
    harness = Harness(directory, **settings)
    try:
        yield harness
    finally:
        harness.engine.close(0)
    assert processes_of(directory) == []


def processes_of(directory: Path) -> list[int]:
    """Node pools whose settings name this directory, and all that is in their sessions."""
    sessions = set()
    stats: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            stats[int(entry.name)] = int(fields[3])
            if str(directory).encode() in (entry / "cmdline").read_bytes():
                sessions.add(int(fields[3]))
    return [pid for pid, session in stats.items() if session in sessions and session in stats]


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that the kernel alone knows; /proc has no notification."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        threading.Event().wait(0.01)
