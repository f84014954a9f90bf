"""The user endpoint as a real process, against a relay at the edge."""

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_house import TOKEN, UEP, ForgetfulRelay, Site, source, tasks, until

from mep.wire import codes
from mep.wire.tasks import Function, Result
from mep.wire.to_endpoint import (
    Cancel,
    Committed,
    Credit,
    Goodbye,
    Leaving,
    MayLeave,
    Results,
    States,
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    relay = ForgetfulRelay()
    made = Site(tmp_path, relay)
    try:
        yield made
    finally:
        made.close()
        relay.close()


def ids(results: Results) -> list[str]:
    return sorted(result.task_id for result in results.results)


def only(results: Results) -> Result:
    (result,) = results.results
    return result


def blocking(path: Path) -> Function:
    """Leaves a line in `path`/count, then waits until `path`/go is a file."""
    body = (
        "import os, threading\n"
        f"    with open({str(path / 'count')!r}, 'ab') as f: f.write(payload + b'\\n')\n"
        f"    while not os.path.exists({str(path / 'go')!r}): threading.Event().wait(0.01)\n"
        "    return payload"
    )
    return Function("f-block", source(body))


def test_a_task_runs_and_its_result_is_kept_until_it_is_committed(site: Site) -> None:
    process = site.start()
    first = site.relay.accept()
    assert first.hello.credit == 2000
    assert first.hello.held == ()
    first.send(tasks("t1"))
    result = only(first.next(Results))
    assert (result.task_id, result.outcome, result.payload) == ("t1", "success", b"t1")
    assert process.read_report() is None
    first.drop()

    second = site.relay.accept()
    assert second.hello.held == ("t1",)
    assert only(second.next(Results)) == result
    second.send(Committed(("t1",)))
    second.send(tasks("t2"))
    assert ids(second.next(Results)) == ["t2"]
    second.send(Goodbye("restart", 0.01))
    second.drop()
    assert site.relay.accept().hello.held == ("t2",)


def test_kill_9_and_a_new_process(site: Site) -> None:
    function = blocking(site.home)
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("done"))
    assert ids(link.next(Results)) == ["done"]
    link.send(tasks("runs", "waits", function=function))
    assert [change.task_id for change in link.next(States).changes] == ["runs"]
    until((site.home / "count").exists)
    until(lambda: (site.home / "count").read_text() == "runs\n")
    process.popen.send_signal(signal.SIGKILL)
    process.wait()

    site.start()
    link = site.relay.accept()
    assert sorted(link.hello.held) == ["done", "runs"]
    done, lost = sorted(link.next(Results).results, key=lambda result: result.task_id)
    assert done.outcome == "success"
    assert lost.failure is not None
    assert lost.failure.code == codes.ENDPOINT_LOST
    # The relay sends what is not held again; it runs once.
    (site.home / "go").touch()
    link.send(tasks("waits", function=function))
    assert only(link.next(Results)).outcome == "success"
    assert (site.home / "count").read_text().split() == ["runs", "waits"]


def test_sigterm_finishes_what_runs_and_gives_the_rest_back(site: Site) -> None:
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("runs", "waits", function=blocking(site.home)))
    link.next(States)
    process.popen.send_signal(signal.SIGTERM)
    # From here on the engine begins nothing more.
    until(lambda: "the engine is closing" in (site.directory / "endpoint.log").read_text())
    (site.home / "go").touch()
    assert only(link.next(Results)).task_id == "runs"
    link.send(Committed(("runs",)))
    assert link.ended()
    assert process.wait() == 0
    assert json.loads((site.directory / "status.json").read_text())["state"] == "ended"


def test_a_revoked_token_ends_it_in_order(site: Site) -> None:
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("t1"))
    link.next(Results)
    site.relay.tokens.clear()
    link.drop()
    assert process.wait() == 3
    assert "revoked" in (site.directory / "endpoint.log").read_text()
    site.relay.tokens.add(TOKEN)
    site.start()
    assert site.relay.accept().hello.held == ("t1",)


def test_a_token_that_was_never_good(site: Site) -> None:
    site.relay.tokens.clear()
    process = site.start()
    assert process.wait() == 3
    report = process.read_report()
    assert report is not None
    assert "revoked" in report["message"]


def test_idle_leaves_when_the_relay_agrees(site: Site) -> None:
    # Long enough for the link: without one an idle endpoint just leaves.
    site.template += "idle_heartbeats_soft: 1\nheartbeat_period: 4\n"
    process = site.start()
    link = site.relay.accept()
    assert link.next(Leaving).reason == "idle"
    link.send(tasks("t1"))  # instead of agreeing: the wish is void
    assert ids(link.next(Results, past=Leaving)) == ["t1"]  # it may have asked again meanwhile
    link.send(MayLeave())  # an answer to nothing
    link.send(Committed(("t1",)))
    link.next(Leaving)
    link.send(MayLeave())
    assert process.wait() == 0


def test_hard_idle_ends_tasks_that_never_move(site: Site) -> None:
    # Long enough for the task to come before the endpoint leaves because there is none.
    site.template += "idle_heartbeats_soft: 30\nidle_heartbeats_hard: 30\nheartbeat_period: 0.2\n"
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("stuck", function=blocking(site.home)))
    result = only(link.next(Results, past=Leaving))  # it may have asked just before
    assert result.failure is not None
    assert result.failure.code == codes.ENDPOINT_LOST
    link.send(Committed(("stuck",)))
    assert process.wait() == 0


def test_cancel_reaches_the_engine(site: Site) -> None:
    site.start()
    link = site.relay.accept()
    link.send(tasks("runs", "waits", function=blocking(site.home)))
    link.send(Cancel(("waits", "unknown")))
    assert only(link.next(Results)).outcome == "cancelled"
    (site.home / "go").touch()
    assert ids(link.next(Results)) == ["runs"]


def test_many_tasks_and_their_credits(site: Site) -> None:
    site.start()
    link = site.relay.accept()
    wanted = [f"t{n}" for n in range(600)]
    link.send(tasks(*wanted))
    seen: list[str] = []
    credit = 0
    while len(seen) < len(wanted) or credit <= len(wanted) - 250:
        message = link.next((Results, Credit))  # type: ignore[arg-type]
        if isinstance(message, Credit):
            credit += message.tasks
        else:
            seen += ids(message)
            link.send(Committed(tuple(ids(message))))
    assert sorted(seen) == sorted(wanted)
    assert credit <= len(wanted)


def test_a_function_that_is_not_allowed(site: Site) -> None:
    site.parent["allowed_functions"] = ["5f8f5f8e-0000-4000-8000-000000000000"]
    site.start()
    link = site.relay.accept()
    link.send(tasks("t1"))
    result = only(link.next(Results))
    assert result.failure is not None
    assert result.failure.code == codes.FUNCTION_NOT_PERMITTED


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"schema": b'{"properties": {"n": {"maximum": 4}}}'}, codes.OPTIONS_REFUSED, "/n"),
        ({"schema": b"{"}, codes.TEMPLATE_FAILED, "schema"),
        ({"template": "a: b: c"}, codes.TEMPLATE_FAILED, "YAML"),
        ({"template": "engine: {}\nidle_hearbeats_soft: 1"}, codes.CONFIG_REFUSED, "_soft'?"),
        ({"template": "engine: {type: ThreadEngin}"}, codes.CONFIG_REFUSED, "ThreadEngin"),
        ({"template": "display_name: x"}, codes.CONFIG_REFUSED, "engine"),
        ({"environment": b"HOME: /root"}, codes.CONFIG_REFUSED, "HOME"),
    ],
)
def test_a_refused_start_is_reported(
    site: Site, change: dict[str, object], code: str, part: str
) -> None:
    site.options = {"n": 5}
    for name, value in change.items():
        setattr(site, name, value)
    process = site.start()
    assert process.wait() == 1
    report = process.read_report()
    assert report is not None
    assert report["code"] == code
    assert part in report["message"]


def test_setup_and_teardown(site: Site) -> None:
    site.template += "endpoint_setup: touch up\nendpoint_teardown: touch down\n"
    process = site.start()
    site.relay.accept()
    assert (site.home / "up").exists()
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert (site.home / "down").exists()


def test_a_failing_setup_refuses_the_start(site: Site) -> None:
    site.template += "endpoint_setup: echo no such module >&2; exit 4\n"
    process = site.start()
    assert process.wait() == 1
    report = process.read_report()
    assert report is not None
    assert "status 4: no such module" in report["message"]


def test_no_second_process_for_one_user_endpoint(site: Site) -> None:
    site.start()
    site.relay.accept()
    second = site.start()
    assert second.wait() == 1
    report = second.read_report()
    assert report is not None
    assert "another process" in report["message"]


def test_the_sites_environment_reaches_tasks(site: Site) -> None:
    site.environment = b"SITE_VALUE: 10:30\n"
    site.template += "display_name: '{{ _GC.env.SITE_VALUE }}'\n"
    site.start()
    link = site.relay.accept()
    body = "import os; return os.environ['SITE_VALUE'].encode()"
    link.send(tasks("t1", function=Function("f", source(body))))
    assert only(link.next(Results)).payload == b"10:30"


def descriptors(pid: int) -> list[str]:
    """What a process has open; one that it closes meanwhile is none."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))
    return found


def test_every_task_is_reported(site: Site) -> None:
    path = str(site.home / "events.sock")
    seen: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        site.facts["events_socket"] = path
        process = site.start()
        link = site.relay.accept()
        link.send(tasks("t1"))
        link.next(Results)
        process.popen.send_signal(signal.SIGTERM)
        while not seen or seen[-1]["event"] != "stopping":
            report = json.loads(manager.recv(65536))
            assert (report["user_endpoint_id"], report["identity_id"]) == (UEP, "i")
            seen += report["events"]
    names = ["up", "RECEIVED", "EXEC_START", "RUNNING", "EXEC_END", "stopping"]
    assert [event["event"] for event in seen] == names
    assert {(event["task_id"], event["function_id"]) for event in seen[1:5]} == {("t1", "f-echo")}


@pytest.mark.root  # the process is not dumpable: only root may look at its descriptors
def test_the_token_is_written_nowhere(site: Site) -> None:
    site.parent["debug"] = True
    process = site.start()
    link = site.relay.accept()
    link.send(tasks("t1"))
    link.next(Results)
    assert "memfd" not in " ".join(descriptors(process.popen.pid))
    for name in ("cmdline", "environ"):
        assert TOKEN.encode() not in Path(f"/proc/{process.popen.pid}/{name}").read_bytes()
    process.popen.send_signal(signal.SIGTERM)
    process.wait()
    for path in site.home.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


def test_something_else_at_descriptor_3(site: Site) -> None:
    site.handover = lambda: b"nonsense"  # type: ignore[method-assign]
    process = site.start()
    assert process.wait() == 2
    report = process.read_report()
    assert report is not None
    assert report["code"] == codes.START_FAILED


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_nobody_else_can_look_into_it() -> None:
    """The kernel gives a non-dumpable process's /proc files to root."""
    home = Path(tempfile.mkdtemp(prefix="mep-test-endpoint-", dir="/var/lib"))
    os.chown(home, 65534, 65534)
    relay = ForgetfulRelay()
    made = Site(home, relay, uid=65534)
    try:
        process = made.start()
        relay.accept()
        assert Path(f"/proc/{process.popen.pid}/environ").stat().st_uid == 0
        assert made.directory.stat().st_uid == 65534
        assert made.directory.stat().st_mode & 0o777 == 0o700
    finally:
        made.close()
        relay.close()
        shutil.rmtree(home)
