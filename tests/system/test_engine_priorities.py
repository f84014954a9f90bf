"""Tasks that wait are run by priority, through a real node pool with one worker."""

import os
from pathlib import Path

from engine_harness import engine, until


def work(directory, name):
    """Write down that this task has begun; ``first`` ends when somebody opens its pipe."""
    with open(os.path.join(directory, "order"), "a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    if name == "first":
        with open(os.path.join(directory, "pipe"), encoding="utf-8") as pipe:
            pipe.read()


def test_lower_numbers_run_first_and_tasks_without_a_priority_last(tmp_path: Path) -> None:
    home, seen = tmp_path / "home", tmp_path / "seen"
    home.mkdir(mode=0o700)
    seen.mkdir()
    os.mkfifo(seen / "pipe")
    with engine(home, max_workers_per_node=1, prefetch_capacity=0) as harness:
        harness.running(harness.submit(work, str(seen), "first"))
        for name, priority in (
            ("none", None),
            ("5", 5),
            ("1", 1),
            ("none again", None),
            ("2.5", 2.5),
            ("-3", -3),
            ("1 again", 1),
        ):
            harness.resources = {} if priority is None else {"priority": priority}
            harness.submit(work, str(seen), name)
        until(lambda: harness.engine.status().waiting == 7, "all tasks waiting")
        (seen / "pipe").write_text("")
        harness.wait(lambda: len(harness.results) == 8, "all results")
        assert {result.outcome for result in harness.results} == {"success"}
    assert (seen / "order").read_text().splitlines() == [
        "first",
        "-3",
        "1",
        "1 again",
        "2.5",
        "5",
        "none",
        "none again",
    ]
