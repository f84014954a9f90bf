"""The SDK in a notebook: a real Jupyter kernel, asked as a notebook's front end asks it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from relays import TOKEN, WAIT_S, EchoRelay, HoardingRelay
from testbed import until

# What the front end's library warns of is not ours.
pytestmark = pytest.mark.filterwarnings("default")

HEAD = """
import asyncio, os
from mep_sdk import Client, Executor

def double(n):
    return 2 * n

ex = Executor(os.environ["EP"], Client(os.environ["RELAY"], os.environ["TOKEN"], patience_s=5))
"""

WAIT = """
import sys, threading, time

def tell(thread):
    def names():
        frame = sys._current_frames()[thread]
        return frame.f_code.co_name, frame.f_back.f_code.co_name

    while names() != ("wait", "result"):
        time.sleep(0.01)
    open({waits!r}, "w").close()

threading.Thread(target=tell, args=(threading.get_ident(),), daemon=True).start()
future = ex.submit(double, 1)
future.result()
"""
"""A cell that says when it is within the wait: elsewhere, others may swallow an interrupt."""


class Notebook:
    """A kernel, and the client of it that a front end is."""

    def __init__(self, url: str, where: Path) -> None:
        self._log = where / "kernel.log"
        self.manager = KernelManager(transport="ipc", ip=str(where / "kernel"))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "IPYTHONDIR": str(where / "ipython"),
            "RELAY": url,
            "TOKEN": TOKEN,
            "EP": str(uuid.uuid4()),
        }
        with self._log.open("wb") as log:
            self.manager.start_kernel(env=environment, stdout=log, stderr=log)
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=WAIT_S)

    def run(self, cell: str) -> tuple[str, str, str]:
        """What a cell prints, what it writes to stderr, and the name of what it raises."""
        self.begin(cell)
        return self.outcome()

    def begin(self, cell: str) -> None:
        self._asked = self._client.execute(cell)

    def outcome(self) -> tuple[str, str, str]:
        told, raised = {"stdout": "", "stderr": ""}, ""
        while True:
            message = self._next()
            match message["msg_type"], message["content"]:
                case "stream", content:
                    told[content["name"]] += content["text"]
                case "error", content:
                    raised = content["ename"]
                case "status", {"execution_state": "idle"}:
                    return told["stdout"], told["stderr"], raised

    def _next(self) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=WAIT_S)
            if message["parent_header"].get("msg_id") == self._asked:
                return message

    def end(self) -> str:
        """As "shut down" in a notebook's menu; what the process itself wrote meanwhile."""
        self._client.stop_channels()
        self.manager.shutdown_kernel()
        return self._log.read_text()

    def kill(self) -> None:
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[list[Notebook]]:
    started: list[Notebook] = []
    yield started
    for one in started:
        one.kill()


def test_cells_and_an_end_without_noise(kernels: list[Notebook], tmp_path: Path) -> None:
    with EchoRelay().serving() as url:
        notebook = Notebook(url, tmp_path)
        kernels.append(notebook)
        assert notebook.run(HEAD) == ("", "", "")
        assert notebook.run("print(ex.submit(double, 21).result(30))") == ("42\n", "", "")
        cell = "print(await asyncio.wrap_future(ex.submit(double, 4)))"
        assert notebook.run(cell) == ("8\n", "", "")
        assert notebook.run("ex.submit(lambda: 1 / 0).result(30)")[2] == "ZeroDivisionError"
        assert notebook.end() == ""


def test_the_stop_button_ends_a_wait_and_nothing_else(
    kernels: list[Notebook], tmp_path: Path
) -> None:
    with HoardingRelay().serving() as url:
        notebook = Notebook(url, tmp_path)
        kernels.append(notebook)
        assert notebook.run(HEAD) == ("", "", "")
        waits = tmp_path / "waits"
        notebook.begin(WAIT.format(waits=str(waits)))
        until(waits.exists, "the cell waits for the result")
        notebook.manager.interrupt_kernel()
        assert notebook.outcome()[2] == "KeyboardInterrupt"
        assert notebook.run("print(future.done())") == ("False\n", "", "")
        assert notebook.end() == ""
