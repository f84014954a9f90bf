"""What the journal says after a crash at any byte, and what it does when the disk is full."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mep.endpoint.errors import StartFailed
from mep.endpoint.inheritance import Left, judge
from mep.endpoint.journal import Journal
from mep.wire import codes
from mep.wire.tasks import Result


def result(task_id: str, payload: bytes = b"p") -> Result:
    return Result(task_id, "success", payload)


def settled(journal: Journal, retries: int = 0, living: str = "none") -> tuple[Result, ...]:
    """What a new process sends first, where the pools whose names begin so may live."""
    verdict = judge(journal.left(), retries, lambda pool_id: pool_id.startswith(living))
    return journal.settle(verdict)


def left(directory: Path) -> tuple[dict[str, Result], set[str]]:
    """Results and lost tasks that a new process finds."""
    journal = Journal(directory)
    try:
        inherited = {one.task_id: one for one in settled(journal)}
    finally:
        journal.close()
    lost = {i for i, one in inherited.items() if one.failure is not None}
    return {i: one for i, one in inherited.items() if i not in lost}, lost


def test_a_task_from_start_to_commit(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.starting(["a", "b"])
    assert journal.has_started("a")
    journal.ended([result("a")])
    assert not journal.has_started("a")
    journal.close()
    assert left(tmp_path) == ({"a": result("a")}, {"b"})
    # What was lost is a result by now, and stays one until it is committed.
    again = Journal(tmp_path)
    assert [one.failure.code for one in settled(again) if one.failure] == [codes.ENDPOINT_LOST]
    again.committed(["a", "b"])
    again.close()
    assert left(tmp_path) == ({}, set())
    assert (tmp_path / "journal").stat().st_size == 0


def test_a_task_that_came_back_unbegun_is_not_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.starting(["a", "b", "c"])
    journal.returned(["b", "c", "never seen"])
    journal.starting(["c"])
    assert [journal.has_started(i) for i in "abc"] == [True, False, True]
    journal.close()
    assert left(tmp_path) == ({}, {"a", "c"})


def test_tasks_of_pools_that_may_live_are_not_lost_yet(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.starting(["a", "b", "c"], ["lives.1", "gone.2", "lives.1"])
    journal.starting(["d"])
    journal.starting(["c"], ["gone.2"])  # it was placed anew
    journal.close()
    journal = Journal(tmp_path)
    assert journal.left().started == {"a": "lives.1", "b": "gone.2", "c": "gone.2", "d": ""}
    assert {one.task_id for one in settled(journal, living="lives")} == {"b", "c", "d"}
    assert journal.has_started("a")
    journal.ended([result("a")])
    journal.close()
    results, lost = left(tmp_path)
    assert (set(results), lost) == ({"a"}, {"b", "c", "d"})


def test_losses_are_counted_across_processes_until_the_task_ends(tmp_path: Path) -> None:
    """With two retries: one loss before the death, the death itself, and then it is enough."""
    journal = Journal(tmp_path, compact_bytes=0)
    journal.starting(["a", "other"])
    journal.lost(["a"])
    journal.returned(["a"])
    journal.starting(["a"])
    journal.close()
    journal = Journal(tmp_path)
    assert settled(journal, retries=2) == ()
    assert journal.left() == Left((), {}, {"a": 2, "other": 1})
    journal.starting(["a"])
    journal.ended([result("other")])
    journal.committed(["other"])
    journal.close()
    journal = Journal(tmp_path)
    (lost,) = settled(journal, retries=2)
    assert lost.task_id == "a"
    journal.committed(["a"])
    journal.close()
    assert (tmp_path / "journal").stat().st_size == 0


def test_what_a_rewritten_file_keeps(tmp_path: Path) -> None:
    journal = Journal(tmp_path, compact_bytes=1000)
    journal.starting(["a", "b"], ["p", "q"])
    journal.lost(["b"])
    journal.lost(["b"])
    for _ in range(3):
        journal.ended([result("x", b"x" * 2000)])
        journal.committed(["x"])
    assert (tmp_path / "journal").stat().st_size < 2000
    journal.close()
    journal = Journal(tmp_path)
    assert journal.left() == Left((), {"a": "p", "b": "q"}, {"b": 2})
    journal.close()


def test_committed_results_are_dropped_from_a_large_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, compact_bytes=10_000)
    journal.starting(["stays"])
    for number in range(200):
        journal.ended([result(f"t{number}", b"x" * 500)])
        journal.committed([f"t{number - 1}"])
    assert (tmp_path / "journal").stat().st_size < 20_000
    journal.close()
    assert left(tmp_path) == ({"t199": result("t199", b"x" * 500)}, {"stays"})


steps = st.lists(
    st.tuples(
        st.sampled_from(["starting", "ended", "committed"]),
        st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True),
    ),
    max_size=12,
)


@given(steps=steps, cut=st.integers(0, 10_000), junk=st.binary(max_size=12))
@settings(max_examples=300, deadline=None)
def test_a_crash_at_any_byte_loses_at_most_the_last_record(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, cut: int, junk: bytes
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory)
    started: set[str] = set()
    results: dict[str, Result] = {}
    journal.starting(["keep"])  # so that the file is never emptied
    started.add("keep")
    base = (directory / "journal").stat().st_size
    sizes, states = [base], [(dict(results), set(started))]
    for number, (step, ids) in enumerate(steps):
        if step == "starting":
            journal.starting(ids)
            started |= set(ids)
        elif step == "ended":
            ended = [result(one, b"%d" % number) for one in ids]
            journal.ended(ended)
            started -= set(ids)
            results.update({one.task_id: one for one in ended})
        else:
            journal.committed(ids)
            results = {one: value for one, value in results.items() if one not in ids}
        sizes.append((directory / "journal").stat().st_size)
        states.append((dict(results), set(started)))
    journal.close()

    data = (directory / "journal").read_bytes()
    at = base + cut % (len(data) - base + 1)
    written = data[:at] + (junk if at < len(data) else b"")
    (directory / "journal").write_bytes(written)
    while data[: at + 1] == written[: at + 1] and at < len(data):
        at += 1  # the junk happens to be what stood there
    whole = max(number for number, size in enumerate(sizes) if size <= at)
    found, lost = left(directory)
    expected_results, expected_lost = states[whole]
    overlap = expected_lost & set(expected_results)  # started again: the later fact is the loss
    assert lost == expected_lost
    assert found == {i: one for i, one in expected_results.items() if i not in overlap}


def test_two_processes_cannot_hold_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(StartFailed, match="another process"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be opened"):
        Journal(tmp_path / "gone")


FULL = """
import os, resource, signal, sys
from pathlib import Path
from mep.endpoint.journal import Journal, JournalError
from mep.wire.tasks import Result

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
journal.starting(["a"])
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
for call in (
    lambda: journal.starting(["never" * 100]),
    lambda: journal.ended([Result("a", "success", b"x" * 1000)]),
):
    try:
        call()
    except JournalError as error:
        assert "cannot be written" in error.strerror, error
    else:
        raise SystemExit("the disk took it")
assert not journal.has_started("never" * 100)
journal.starting(["b"])  # a smaller record still fits: the half-written one was cut away
"""


def test_a_full_disk_refuses_and_cuts_the_half_record_away(tmp_path: Path) -> None:
    """A limit on the file's size stands in for the full disk; the kernel writes what still fits."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    script = [sys.executable, "-I", "-c", FULL, str(tmp_path)]
    subprocess.run(script, check=True, timeout=20, env=dict(os.environ))
    assert left(tmp_path) == ({}, {"a", "b"})
