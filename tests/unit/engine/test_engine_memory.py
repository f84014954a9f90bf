"""Where limits of memory are found, and in which words an end for want of it is told."""

import signal

import pytest

from mep.worker import endings, memory
from mep.worker.execute import one_line
from mep.worker.memory import Place, counted, limit, places

VERSION_1 = "4:memory:/slurm/job_7\n9:name=systemd:/x\n0::/x\n"
VERSION_2 = "0::/system.slice/slurmstepd.scope/job_7\n"


def test_the_group_of_version_1_comes_before_the_top_and_version_2():
    assert [place.directory for place in places(VERSION_1)] == [
        "/sys/fs/cgroup/memory/slurm/job_7",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/x",
        "/sys/fs/cgroup",
    ]


def test_the_group_of_version_2():
    assert places(VERSION_2) == [
        Place("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7", 2),
        Place("/sys/fs/cgroup", "/sys/fs/cgroup", 2),
    ]


def test_no_group_at_all():
    assert places("") == []
    assert places("3:cpu,cpuacct:/a\n") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("oom_kill x\n", None),
        ("", None),
    ],
)
def test_how_often_memory_ran_out(text, found):
    assert counted(text, "oom_kill") == found


def test_the_smallest_limit_of_version_2_counts(tmp_path):
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert limit(Place(str(tmp_path), str(inner), 2)) is None
    (inner.parent / "memory.max").write_text("1048576\n")
    assert limit(Place(str(tmp_path), str(inner), 2)) == 1048576


def test_the_limit_of_version_1(tmp_path):
    place = Place(str(tmp_path), str(tmp_path), 1)
    assert limit(place) is None
    (tmp_path / "memory.stat").write_text("cache 1\nhierarchical_memory_limit 4096\n")
    assert limit(place) == 4096
    (tmp_path / "memory.stat").write_text("hierarchical_memory_limit 9223372036854771712\n")
    assert limit(place) is None


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("own", "signal 9 (SIGKILL), as the kernel does when memory runs out"),
        ("memory", "because memory ran out. Use less"),
        ("memory=83886080", "memory ran out (a node's workers may have 80 MiB together). Use less"),
        ("dropped", "replaced the process by another program (exec)"),
    ],
)
def test_what_is_said_of_a_worker_that_was_killed(cause, words):
    assert words in endings.describe(signal.SIGKILL, cause)


def test_what_is_said_of_one_that_had_its_cpu_time():
    assert "ulimit -t" in endings.describe(signal.SIGXCPU, "own")


def test_a_memory_error_says_the_limit_where_there_is_one():
    size = memory.address_space()
    expected = "MemoryError" if size is None else f"MemoryError (a worker may have {size}"
    assert one_line(MemoryError())[:30] == expected[:30]


@pytest.mark.parametrize(("size", "text"), [(3 * 2**29, "1.5 GiB"), (80 * 2**20, "80 MiB")])
def test_sizes_for_people(size, text):
    assert memory.readable(size) == text
