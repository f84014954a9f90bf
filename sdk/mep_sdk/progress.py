"""A bar on the terminal, for whoever waits for many tasks."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.progress import Progress

SHOW_AFTER_S: Final = 1.0
"""What is over sooner needs no bar."""

_one = threading.Lock()
"""A terminal has room for one bar; held by the one that is shown."""


class Bar:
    """Shows how many of these futures are done, while the context lasts. Ends with what ends it.

    Args:
        futures: all of them, done or not.
        wanted: False: shows nothing; None: shows it where stderr is a terminal.
    """

    def __init__(self, futures: Sequence[Future[Any]], wanted: bool | None) -> None:
        shows = _on_a_terminal() if wanted is None else wanted
        self._futures = tuple(futures) if shows and len(futures) > 1 else ()
        self._lock = threading.Lock()
        self._over = False
        self._shown: Progress | None = None

    def __enter__(self) -> "Bar":
        if self._futures:
            self._timer = threading.Timer(SHOW_AFTER_S, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if not self._futures:
            return
        self._timer.cancel()
        with self._lock:
            self._over = True
            shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()
            _one.release()

    def _show(self) -> None:
        with self._lock:
            if self._over or not _one.acquire(blocking=False):
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

            self._shown = shown = Progress(
                *("tasks", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
                console=Console(stderr=True),
                transient=True,
                # What is printed goes above the bar; what is piped stays in its pipe.
                redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            )
            row = shown.add_task("", total=len(self._futures))
            shown.start()
        for future in self._futures:
            future.add_done_callback(lambda _: shown.advance(row))


def _on_a_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
