"""What a user endpoint tells the manager: in batches where it may be lost, answered where not."""

import asyncio
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from mep.endpoint import happenings
from mep.endpoint.assured import Assured
from mep.endpoint.custody import Custody
from mep.endpoint.events import AGAIN_S, KEPT, AuditLost, Events
from mep.endpoint.happenings import Progress, happened
from mep.endpoint.permits import Permits
from mep.wire.events import NOT_WRITTEN, REPORT_BYTES, WRITTEN, Event, Report
from mep.wire.tasks import Failure, Function, Result, StateChange, Task

F = "3f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"
WHO = ("u1", "i1")


def listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(20)
    return made


def heard(manager: socket.socket, count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        report = msgspec.json.decode(manager.recv(REPORT_BYTES + 1), type=Report)
        assert (report.user_endpoint_id, report.identity_id) == WHO
        found += report.events
    return found


def test_events_come_in_batches_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"

    async def scenario() -> list[Event]:
        with listener(path) as manager:
            events = Events(str(path), *WHO)
            for number in range(1000):
                events.report([Event("RUNNING", 1.0, str(number))])
            found = await asyncio.to_thread(heard, manager, 1000)
            events.report([happened("stopping", "x" * 10_000)])
            events.close()  # what is left is told now
            return found + heard(manager, 1)

    *found, last = asyncio.run(scenario())
    assert [event.task_id for event in found] == [str(number) for number in range(1000)]
    assert len(last.text) == 500


def test_a_burst_that_the_kernel_has_no_room_for_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"

    async def scenario() -> list[Event]:
        with listener(path) as manager:
            events = Events(str(path), *WHO)
            events.report(Event("RUNNING", 1.0, str(number)) for number in range(20_000))
            found = await asyncio.to_thread(heard, manager, 15_000)
            # Begins to listen now, and not when the loop has its turn.
            rest = asyncio.get_running_loop().run_in_executor(None, heard, manager, 5_000)
            events.close()  # waits for room
            return found + await rest

    found = asyncio.run(scenario())
    assert [event.task_id for event in found] == [str(number) for number in range(20_000)]


def test_the_largest_events_go_into_packets(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"

    async def scenario() -> list[Event]:
        with listener(path) as manager:
            events = Events(str(path), *WHO)
            events.report([happened("x", "\u0001" * 500)] * 300)
            found = await asyncio.to_thread(heard, manager, 300)
            events.close()
            return found

    assert len(asyncio.run(scenario())) == 300


def test_a_manager_that_was_away_hears_it_later(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"

    async def scenario() -> list[Event]:
        events = Events(str(path), *WHO)
        events.report([happened("up")])
        assert events._flush() == AGAIN_S, "nobody listens"
        with listener(path) as manager:
            events.report([happened("idle")])
            found = await asyncio.to_thread(heard, manager, 2)
            events.close()
            return found

    assert [event.event for event in asyncio.run(scenario())] == ["up", "idle"]


def test_what_is_too_much_to_keep_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"

    async def scenario() -> list[Event]:
        events = Events(str(path), *WHO)
        events.report(Event("x", 1.0, str(number)) for number in range(KEPT + 7))
        with listener(path) as manager:
            found = await asyncio.to_thread(heard, manager, KEPT + 1)
            events.close()
            return found

    first, second, *_ = asyncio.run(scenario())
    assert (first.event, first.text, second.task_id) == ("lost", "7", "7")


def test_a_site_without_a_socket_is_told_nothing() -> None:
    events = Events(None, *WHO)
    events.report([happened("up")])
    events.close()


# --- where each event must be written down


class Manager:
    """Answers reports; from one on otherwise."""

    def __init__(self, path: Path, refuse_after: int = 10**9, refusal: bytes = b"") -> None:
        self._refusal = refusal
        self.heard: list[Event] = []
        self._refuse_after = refuse_after
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(REPORT_BYTES + 1):
                    if len(self.heard) >= self._refuse_after:
                        connection.send(self._refusal)
                        break
                    self.heard += msgspec.json.decode(data, type=Report).events
                    connection.send(WRITTEN)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_an_assured_report_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "audit.sock"
    manager = Manager(path)
    reporter = Assured(str(path), *WHO)
    reporter.report(Event("x", 1.0, str(number)) for number in range(400))
    assert [event.task_id for event in manager.heard] == [str(number) for number in range(400)]
    reporter.report([])
    reporter.close()
    manager.close()


def test_a_manager_that_restarts_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.sock"
    reporter = Assured(str(path), *WHO)
    made: list[Manager] = []
    later = threading.Timer(0.3, lambda: made.append(Manager(path)))
    later.start()
    reporter.report([happened("up")])
    later.join()
    assert [event.event for event in made[0].heard] == ["up"]
    reporter.close()
    made[0].close()


@pytest.mark.parametrize("refusal", [b"", NOT_WRITTEN])
def test_what_is_not_written_down_is_an_error_for_good(tmp_path: Path, refusal: bytes) -> None:
    path = tmp_path / "audit.sock"
    manager = Manager(path, refuse_after=1, refusal=refusal)
    reporter = Assured(str(path), *WHO, patience_s=3)
    reporter.report([happened("up")])
    with pytest.raises(AuditLost, match="cannot be written"):
        reporter.report([happened("x")])
    with pytest.raises(AuditLost, match="no audit log"):
        reporter.report([happened("x")])
    assert [event.event for event in manager.heard] == ["up"]
    with pytest.raises(AuditLost, match="no audit log"):
        Assured(None, *WHO).report([happened("x")])
    manager.close()


# --- what happened


def test_the_life_of_a_task_in_events() -> None:
    custody = Custody(Permits([[F]]), [])
    bodies = [Function(F, b""), Function("no", b"")]
    tasks = [Task("t1", F, "g", b""), Task("t2", "no", "g", b"")]
    taken = custody.take(bodies, tasks)
    known = custody.task
    (refused,) = happenings.refused(taken.refused, known)
    assert (refused.event, refused.task_id, refused.function_id) == ("REFUSED", "t2", "no")
    assert refused.text == "failed FUNCTION_NOT_PERMITTED"
    assert [(one.event, one.task_id) for one in happenings.taken(taken)] == [
        ("RECEIVED", "t1"),
        ("EXEC_START", "t1"),
    ]
    moves = [StateChange("t1", "running", 5.0), StateChange("t1", "waiting-for-nodes", 6.0)]
    pools = {"t1": "7.node3.99", "quick": "8.node1.5"}
    places = happenings.places_of(pools, {"blocks": [{"id": "7", "job_id": "4711"}]})
    progress = Progress()
    assert progress.running(moves, known, places) == [Event("RUNNING", 5.0, "t1", F, "7", "4711")]
    results = [
        Result("t1", "success", b"", None, 5.0, 6.0),
        Result("old", "failed", b"", Failure("C", "m")),
    ]
    first, second = progress.ended(results, known, places)
    assert (first.event, first.function_id, first.text) == ("EXEC_END", F, "success")
    assert (second.task_id, second.function_id, second.text) == ("old", "", "failed C")
    quick = Result("quick", "success", b"", None, 3.0, 4.0)
    began, over = progress.ended([quick], known, places)
    assert began == Event("RUNNING", 3.0, "quick", "", "8", "")
    assert over.event == "EXEC_END"
