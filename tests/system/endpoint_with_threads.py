"""A user endpoint whose engine is one thread of its own: run as a script, like ``-m mep.endpoint``.

A function's body is Python source that defines ``run(payload: bytes) -> bytes``.
"""

import logging
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from mep.endpoint.__main__ import main
from mep.endpoint.engines.base import Callbacks, EngineError, EngineStatus, Surroundings
from mep.endpoint.inheritance import Left, Verdict, judge
from mep.wire import codes
from mep.wire.settings import SettingsError
from mep.wire.tasks import Failure, Function, Result, StateChange, Task


class ThreadEngine:
    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._functions: dict[str, Any] = {}
        self._tasks: queue.Queue[Task | None] = queue.Queue()
        self._waiting: dict[str, Task] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)

    def inherit(self, left: Left) -> Verdict:
        return judge(left, 0, lambda _: False)

    def safe(self, task_ids: Sequence[str]) -> None:
        pass

    def start(self) -> None:
        self._thread.start()

    def submit(self, functions: Sequence[Function], tasks: Sequence[Task]) -> None:
        for function in functions:
            assert function.function_id not in self._functions, "a function was given twice"
            space: dict[str, Any] = {}
            exec(function.body.decode(), space)
            self._functions[function.function_id] = space["run"]
        for task in tasks:
            self._waiting[task.task_id] = task
            self._tasks.put(task)

    def cancel(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            if self._waiting.pop(task_id, None):
                failure = Failure(codes.CANCELLED, "cancelled")
                self._callbacks.ended([Result(task_id, "cancelled", b"", failure)])

    def status(self) -> EngineStatus:
        return EngineStatus(len(self._waiting), 0, 1)

    def close(self, grace_s: float) -> None:
        left, self._waiting = self._waiting, {}
        logging.getLogger(__name__).info("the engine is closing")
        self._tasks.put(None)
        failure = Failure(codes.WORKER_LOST, "the engine is closed")
        self._callbacks.ended([Result(one, "failed", b"", failure) for one in left])
        self._thread.join(grace_s)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._waiting.pop(task.task_id, None):
                self._callbacks.ended([self._run(task)])

    def _run(self, task: Task) -> Result:
        try:
            self._callbacks.starting([task.task_id])
        except EngineError as error:
            failure = Failure(codes.ENGINE_FAILED, str(error))
            return Result(task.task_id, "failed", b"", failure)
        began = time.time()
        self._callbacks.moved([StateChange(task.task_id, "running", began)])
        payload = self._functions[task.function_id](task.payload)
        return Result(task.task_id, "success", payload, None, began, time.time())


def build(section: dict[str, Any], _: Surroundings, callbacks: Callbacks) -> ThreadEngine:
    if section.get("type") != "ThreadEngine":
        raise SettingsError(f"engine.type {section.get('type')!r} is not known")
    return ThreadEngine(callbacks)


if __name__ == "__main__":
    sys.exit(main(build))
