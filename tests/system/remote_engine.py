"""An engine in a process of an ordinary account, as in a user endpoint; driven through a pipe.

Run as a program, it is that process: ``python remote_engine.py DESCRIPTOR``.
"""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dill
from engine_harness import LIMIT_S, Harness, as_in_a_script

from mep import payload
from mep.wire.tasks import Result

ANSWER_S = LIMIT_S + 60
"""Longer than anything that the other side waits for, if it is not told to wait longer."""


class RemoteEngine:
    """A :class:`engine_harness.Harness` that runs as `account`, in ``~/.mep/engine``.

    Args:
        account: an ordinary one.
        environment: beside HOME, USER and LOGNAME.
        settings: the ``engine:`` section.
    """

    def __init__(
        self, account: pwd.struct_passwd, environment: Mapping[str, str], **settings: Any
    ) -> None:
        self.directory = Path(account.pw_dir, ".mep", "engine")
        ours, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), json.dumps(settings)],
                env={
                    "HOME": account.pw_dir,
                    "USER": account.pw_name,
                    "LOGNAME": account.pw_name,
                    **environment,
                },
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                cwd="/",
                pass_fds=[theirs.fileno()],
            )
        self._pipe = ours
        self._ask("up")

    def submit(self, function: Callable[..., Any], *args: Any, **resources: Any) -> str:
        body = dill.dumps(as_in_a_script(function), recurse=True)
        return self._ask("submit", body, args, resources)

    def cancel(self, task_id: str) -> None:
        self._ask("cancel", task_id)

    def result(self, task_id: str, limit_s: float = LIMIT_S) -> Result:
        return self._ask("result", task_id, limit_s, answer_s=limit_s + ANSWER_S)

    def value(self, task_id: str, limit_s: float = LIMIT_S) -> Any:
        result = self.result(task_id, limit_s)
        assert result.outcome == "success", result
        return payload.load_result(result.payload)

    def running(self, task_id: str) -> None:
        self._ask("running", task_id)

    def blocks(self) -> list[dict[str, Any]]:
        return self._ask("blocks")

    def live(self) -> list[dict[str, Any]]:
        return [block for block in self.blocks() if block["state"] != "ended"]

    def close(self, grace_s: float = 0.0) -> None:
        """In order."""
        self._ask("close", grace_s)
        self._pipe.close()
        assert self.process.wait(LIMIT_S) == 0

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._pipe.close()

    def __enter__(self) -> "RemoteEngine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is not None:
            return
        try:
            self.close()
        finally:
            self.process.kill()
            self.process.wait()

    def _ask(self, *question: Any, answer_s: float = ANSWER_S) -> Any:
        self._pipe.send(question)
        assert self._pipe.poll(answer_s), f"no answer to {question[0]}"
        good, answer = self._pipe.recv()
        assert good, answer
        return answer


def serve(pipe: Connection, settings: dict[str, Any]) -> None:
    directory = Path.home() / ".mep" / "engine"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    harness = Harness(directory, **settings)
    asked = ""
    while asked != "close":
        asked, *args = pipe.recv()
        try:
            pipe.send((True, answer(harness, asked, args)))
        except Exception as error:
            pipe.send((False, f"{asked}: {error!r}"))


def answer(harness: Harness, asked: str, args: list[Any]) -> Any:
    match asked, args:
        case "cancel", [task_id]:
            return harness.engine.cancel([task_id])
        case "submit", [function, arguments, resources]:
            harness.resources = resources
            return harness.submit(dill.loads(function), *arguments)
        case "result", [task_id, limit_s]:
            return harness.result(task_id, limit_s)
        case "running", [task_id]:
            return harness.running(task_id)
        case "blocks", []:
            return harness.engine.status().detail.get("blocks", [])
        case "close", [grace_s]:
            return harness.engine.close(grace_s)
        case "up", []:
            return None
    raise AssertionError(asked)


if __name__ == "__main__":
    import logging

    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING)
    serve(Connection(int(sys.argv[1])), json.loads(sys.argv[2]))
