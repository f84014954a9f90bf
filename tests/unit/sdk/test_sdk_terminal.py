"""What is seen on a terminal, and what is not elsewhere; other systems than POSIX."""

import os
import pty
import select
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest
from relays import TOKEN, WAIT_S, EchoRelay, HoardingRelay

EP = str(uuid.uuid4())

WAITS = """
import os, sys
from mep_sdk import Client, Executor
from mep_sdk.progress import Bar

def double(n):
    return 2 * n

def soon_is(seconds):
    from mep_sdk import progress  # whatever the machine is busy with
    progress.SHOW_AFTER_S = seconds

ex = Executor(os.environ["EP"], Client(os.environ["RELAY"], os.environ["TOKEN"]))
"""


def on_a_terminal(url: str, body: str, where: Path) -> tuple[str, str]:
    """What a script shows on its terminal, and what it writes to a pipe meanwhile."""
    master, slave = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "80", "LANG": "C.UTF-8"}
    out = where / "out"
    with out.open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WAITS + textwrap.dedent(body)],
            env={**environment, "RELAY": url, "TOKEN": TOKEN, "EP": EP},
            stdin=slave,
            stdout=stdout,
            stderr=slave,
        )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + WAIT_S
    try:
        while select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(WAIT_S) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown.decode(), out.read_text()


def test_whoever_waits_for_many_sees_how_far_it_is(tmp_path: Path) -> None:
    """A bar appears after a second, and is gone in the end; what is piped stays in its pipe."""
    with HoardingRelay().serving() as url:
        body = """
        futures = [ex.submit(double, n) for n in range(5)]
        ex.flush(20)
        futures[0].cancel()
        with Bar(futures, None) as bar:
            while bar._shown is None:  # the relay never answers; the bar comes by itself
                pass
            print("piped", flush=True)
        ex.shutdown(cancel_futures=True)
        """
        shown, piped = on_a_terminal(url, body, tmp_path)
    assert "tasks" in shown
    assert "/5" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1, "the cursor is back"
    assert piped == "piped\n"


@pytest.mark.parametrize("waits", ["next(results)", "ex.shutdown()"])
def test_an_executor_that_waits_for_many_shows_it(waits: str, tmp_path: Path) -> None:
    with HoardingRelay().serving() as url:
        body = f"""
        import concurrent.futures, contextlib, threading
        from mep_sdk import progress

        results = ex.map(double, range(5))

        def end():
            while not progress._one.locked():  # by the bar
                pass
            ex.shutdown(wait=False, cancel_futures=True)

        threading.Thread(target=end).start()
        with contextlib.suppress(concurrent.futures.CancelledError):
            {waits}
        """
        shown, _ = on_a_terminal(url, body, tmp_path)
    assert "/5" in shown


def test_what_is_over_soon_shows_nothing(tmp_path: Path) -> None:
    with EchoRelay().serving() as url:
        body = """
        soon_is(60)
        assert list(ex.map(double, range(3))) == [0, 2, 4]
        ex.shutdown()
        """
        assert on_a_terminal(url, body, tmp_path) == ("", "")


def test_two_at_once_share_the_terminal(tmp_path: Path) -> None:
    with EchoRelay().serving() as url:
        body = """
        soon_is(60)
        ex.progress = True
        for a, b in zip(ex.map(double, range(3)), ex.map(double, range(3))):
            assert a == b
        ex.shutdown()
        """
        assert on_a_terminal(url, body, tmp_path) == ("", "")


@pytest.mark.parametrize("absent", ["fcntl pwd grp resource termios pty syslog", "fcntl"])
def test_everything_is_imported_without_posix(absent: str) -> None:
    """As on Windows, for what scientists use; calls of the system are guarded."""
    code = f"""
    import importlib, os, pkgutil, sys
    for name in {absent.split()!r}:
        sys.modules[name] = None
    for name in ("register_at_fork", "geteuid", "getuid", "fork", "pidfd_open"):
        delattr(os, name)
    import mep_sdk, mep.payload, mep.link
    for package in (mep_sdk, mep.payload):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{{package.__name__}}.{{module.name}}")
    verbs = "login functions submit tasks logs endpoints groups version"
    from click.testing import CliRunner
    from mep.cli.__main__ import mep
    for verb in verbs.split():
        done = CliRunner().invoke(mep, [verb, "--help"])
        assert done.exit_code == 0, (verb, done.exception)
    from mep_sdk import Client, Executor
    assert repr(Executor({EP!r}))
    Client("https://relay.example.org", "token")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
