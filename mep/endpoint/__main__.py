"""Entry point: descriptors 3 and 4, exit status. Started by the warden, as the mapped user.

Exit status: 0 after an orderly end, 1 when the start was refused (the report says why), 2 when it
was not started by a warden, 3 when the relay ended it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from mep.endpoint.engines.base import Callbacks, Engine, EngineError, Starting, Surroundings
from mep.endpoint.errors import ConfigRefused, EngineFailed, StartError
from mep.endpoint.inheritance import Left, Verdict
from mep.wire import codes, handover, limits
from mep.wire.settings import SettingsError
from mep.wire.tasks import StateChange

if TYPE_CHECKING:
    from mep.endpoint.app import Endpoint
    from mep.endpoint.journal import Journal
    from mep.endpoint.mailbox import Mailbox

BuildEngine = Callable[[dict[str, Any], Surroundings, Callbacks], Engine]
_PR_SET_DUMPABLE: Final = 4


def main(build: BuildEngine | None = None) -> int:
    """Serve one user endpoint; the exit status.

    Args:
        build: makes the engine from its section of the configuration; default: the engines here.
    """
    _become_undumpable()
    report = Report(handover.REPORT_DESCRIPTOR)
    signal.signal(signal.SIGTERM, _end)
    try:
        received = handover.decode(_read_handover(handover.DESCRIPTOR))
    except (OSError, handover.HandoverError) as error:
        sys.stderr.write(f"a user endpoint is started by the warden, not by hand: {error}\n")
        report.fail(codes.START_FAILED, f"the handover cannot be read: {error}")
        return 2
    try:
        return _serve(received, build or _build_engine, report)
    except StartError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        report.fail(error.code, str(error))
        return 1
    except Exception as error:
        where = "its log is ~/.mep/*/stderr.log on the endpoint's machine"
        report.fail(codes.START_FAILED, f"the user endpoint broke: {error!r}; {where}")
        raise


class Report:
    """The way to root: nothing, or why the start was refused."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            self._descriptor = None

    def fail(self, code: str, message: str) -> None:
        """Say why, once."""
        data = encode_report(code, message)
        if self._descriptor is not None:
            # Nobody may be there any more.
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            try:
                os.write(self._descriptor, data)
            except OSError as error:
                sys.stderr.write(f"nobody reads the report: {error}\n")
        self.close()

    def close(self) -> None:
        """All is well, or all is said."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def encode_report(code: str, message: str) -> bytes:
    """The JSON of a failed start, within its limit."""
    size = limits.USER_MESSAGE
    while True:
        data = json.dumps({"code": code, "message": message[:size]}).encode()
        if len(data) <= handover.REPORT_BYTES:
            return data
        size = size * 3 // 4


def _serve(received: handover.Handover, build: BuildEngine, report: Report) -> int:
    from mep.endpoint import commands
    from mep.endpoint.journal import Journal
    from mep.endpoint.mailbox import Mailbox
    from mep.endpoint.start import prepare

    prepared = prepare(received, os.environ)
    if prepared.config.endpoint_setup:
        commands.set_up(prepared.config.endpoint_setup)
    journal = Journal(prepared.directory)
    mailbox = Mailbox()
    surroundings = Surroundings(
        str(prepared.directory),
        prepared.facts.endpoint_id,
        prepared.facts.user_endpoint_id,
        limits.BLOB,
        prepared.parent.settings.get("allow_unencrypted_pools") is True,
        prepared.submitted,
    )
    callbacks = Callbacks(
        _recorder(journal),
        _mover(journal, mailbox),
        mailbox.ended,
        _counter(journal),
        mailbox.released,
        mailbox.changed,
        mailbox.located,
    )
    left = journal.left()
    engine, verdict = _started(build, prepared.config.engine, surroundings, callbacks, left)
    inherited = journal.settle(verdict)
    try:
        # The engine's processes come up while this one imports what the link needs.
        from mep.endpoint.app import Endpoint

        token = received.token.decode()
        endpoint = Endpoint(
            prepared, token, engine, mailbox, journal, inherited, verdict.awaited, report.close
        )
    except SystemExit:
        engine.close(0)
        raise
    status = _run(endpoint, report)
    journal.close()
    if prepared.config.endpoint_teardown:
        commands.tear_down(prepared.config.endpoint_teardown)
    return status


def _run(endpoint: "Endpoint", report: Report) -> int:
    import asyncio
    import logging

    from mep.link import LinkRefused

    log = logging.getLogger(__name__)
    try:
        log.info("ended: %s", asyncio.run(endpoint.run()))
    except LinkRefused as error:
        log.warning("ended: the relay refused this endpoint (%d): %s", error.status, error.message)
        report.fail(codes.START_FAILED, f"the relay refused the user endpoint: {error.message}")
        return 3
    return 0


def _mover(journal: "Journal", mailbox: "Mailbox") -> Callable[[Sequence[StateChange]], None]:
    """The engine's ``moved``: what came back unbegun leaves the ledger before it goes out again."""
    import logging

    from mep.endpoint.journal import JournalError

    def moved(changes: Sequence[StateChange]) -> None:
        back = [change.task_id for change in changes if change.state == "waiting-for-nodes"]
        try:
            journal.returned(back)
        except JournalError as error:
            logging.getLogger(__name__).warning("%s", error.strerror)
        mailbox.moved(changes)

    return moved


def _recorder(journal: "Journal") -> Starting:
    """The engine's ``starting``."""
    from mep.endpoint.journal import JournalError

    def starting(task_ids: Sequence[str], pool_ids: Sequence[str] = ()) -> None:
        try:
            journal.starting(task_ids, pool_ids)
        except JournalError as error:
            raise EngineError(f"the task was not started: {error.strerror}") from error

    return starting


def _counter(journal: "Journal") -> Callable[[Sequence[str]], None]:
    """The engine's ``lost``."""
    import logging

    from mep.endpoint.journal import JournalError

    def lost(task_ids: Sequence[str]) -> None:
        try:
            journal.lost(task_ids)
        except JournalError as error:
            logging.getLogger(__name__).warning("%s", error.strerror)

    return lost


def _started(
    build: BuildEngine,
    section: Mapping[str, Any],
    surroundings: Surroundings,
    callbacks: Callbacks,
    left: Left,
) -> tuple[Engine, Verdict]:
    try:
        engine = build(dict(section), surroundings, callbacks)
        verdict = engine.inherit(left)
        engine.start()
    except SettingsError as error:
        raise ConfigRefused(str(error)) from error
    except EngineError as error:
        raise EngineFailed(str(error)) from error
    return engine, verdict


def _build_engine(
    section: dict[str, Any], surroundings: Surroundings, callbacks: Callbacks
) -> Engine:
    from mep.endpoint.engines.build import build

    return build(section, surroundings, callbacks)


def _become_undumpable() -> None:
    """Nobody but root may trace this process or read its memory: it holds the relay token."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def _read_handover(descriptor: int) -> bytes:
    """The whole memory file; it is closed afterwards."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def _end(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM before the event loop has taken over."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
