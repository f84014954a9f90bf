"""What a task may ask of nodes, how launchers are told of it, and which nodes a job has."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing_simulator import block, waiter

from mep.endpoint.engines import mpi_resources, settings
from mep.endpoint.engines.resources import ResourcesError
from mep.endpoint.interchange.backlog import MOST_PASSES
from mep.endpoint.interchange.packing import Packing
from mep.endpoint.interchange.request import Request
from mep.wire.settings import SettingsError
from mep.worker import job_nodes, launchers, sweep
from mep.worker.deadlines import Deadlines
from mep.worker.launchers import HYDRA, OPEN_MPI, Shape

SHAPE = Shape(["n1", "n2"], 4, "")


@pytest.mark.parametrize(
    ("text", "nodes", "ranks"),
    [
        (b'{"num_nodes": 2}', 2, 1),
        (b'{"ranks_per_node": 3}', 1, 3),
        (b'{"num_ranks": 5}', 1, 5),
        (b'{"num_nodes": 2, "num_ranks": 6}', 2, 3),
        (b'{"ranks_per_node": 2, "num_ranks": 6}', 3, 2),
        (b'{"num_nodes": 2, "ranks_per_node": 2, "num_ranks": 4}', 2, 2),
        (b'{"num_nodes": "2", "ranks_per_node": null}', 2, 1),
    ],
)
def test_the_count_that_is_missing_follows_from_the_others(text, nodes, ranks):
    request = mpi_resources.read(text, nodes=4)
    assert request == Request(num_nodes=nodes, ranks_per_node=ranks)


def test_no_number_of_a_task_is_too_great_for_the_clock():
    with pytest.raises(ResourcesError, match="walltime of the resource_specification"):
        mpi_resources.read(b'{"walltime": %s}' % (b"9" * 400), 4)


def test_all_of_a_specification():
    text = b'{"num_nodes": 2, "launcher_options": "-v --x=1", "priority": 3, "walltime": 60}'
    assert mpi_resources.read(text, 4) == Request(3, 60, 2, 1, "-v --x=1")
    assert mpi_resources.read(b"", 4) is None
    assert mpi_resources.read(b"{}", 4) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b'{"num_nodes": 5}', "a block of this endpoint has 4"),
        (b'{"num_ranks": 10, "ranks_per_node": 2}', "asks for 5 nodes"),
        (b'{"num_nodes": 2, "ranks_per_node": 2, "num_ranks": 5}', "contradicts itself"),
        (b'{"num_nodes": 2, "num_ranks": 5}', "num_ranks is 5, which is not 2 nodes times 3"),
        (b'{"num_node": 2}', "did you mean 'num_nodes'"),
        (b'{"num_nodes": 0}', "at least 1"),
        (b'{"num_nodes": true}', "at least 1"),
        (b'{"num_nodes": 1.5}', "whole number"),
        (b'{"launcher_options": 3}', "must be text"),
        (b'{"launcher_options": "\'x"}', "cannot be split"),
        (b'{"launcher_options": "-x \'a b\'"}', "'a b'"),
        (b'{"launcher_options": "-x $(id)"}', "special characters"),
        (b'{"walltime": 1000}', "granted 600 seconds"),
        (b'{"walltime": -1}', "walltime of the resource_specification must be more than 0"),
        (b'{"priority": "high"}', "priority of the resource_specification must be a number, not"),
        (b"[]x", "cannot be read"),
        (b"[1]", "must be a mapping"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(text, part):
    with pytest.raises(ResourcesError) as refused:
        mpi_resources.read(text, nodes=4, longest_s=600)
    assert part in str(refused.value)


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"max_workers_per_node": 2}, "set max_workers_per_block"),
        ({"prefetch_capacity": 1}, "no task waits at a block"),
        ({"cores_per_worker": 2.0}, "all cores of its nodes"),
        ({"max_workers_per_block": 5}, "4 nodes of a block"),
        ({"max_passes": MOST_PASSES + 1}, "<= 2000"),
        ({"mpi_launcher": "mpirun"}, "known here: srun, mpiexec, aprun, flux"),
        ({"provider": {"type": "TorqueProvider"}}, "set launcher to {type: SimpleLauncher}"),
        (
            {
                "nodes_per_block": None,
                "provider": {
                    "type": "SlurmProvider",
                    "nodes_per_block": 4,
                    "launcher": {"type": "SrunLauncher"},
                },
            },
            "set launcher to {type: SimpleLauncher}",
        ),
    ],
)
def test_settings_that_mean_nothing_to_the_mpi_engine(section, part):
    raw = {"type": "GlobusMPIEngine", "nodes_per_block": 4, "provider": {"type": "SlurmProvider"}}
    with pytest.raises(SettingsError) as refused:
        settings.read({**raw, **section})
    assert part in str(refused.value)


def test_the_template_of_the_documentation():
    read = settings.read(
        {
            "type": "GlobusMPIEngine",
            "mpi_launcher": "srun",
            "provider": {
                "type": "SlurmProvider",
                "launcher": {"type": "SimpleLauncher"},
                "nodes_per_block": 4,
            },
        }
    )
    assert (read.nodes, read.workers, read.mpi_launcher) == (4, 4, "srun")


def test_every_launcher_has_its_own_spelling():
    assert launchers.mpiexec(SHAPE, OPEN_MPI)[:5] == ["mpiexec", "-n", "8", "--host", "n1:4,n2:4"]
    hydra = ["mpiexec", "-n", "8", "-ppn", "4", "-hosts", "n1,n2"]
    assert launchers.mpiexec(SHAPE, HYDRA) == hydra
    assert launchers.aprun(SHAPE) == ["aprun", "-n", "8", "-N", "4", "-L", "n1,n2"]
    assert launchers.flux(SHAPE)[:4] == ["flux", "run", "--nodes=2", "--ntasks=8"]
    srun = launchers.srun(SHAPE)
    assert srun[0] == "srun"
    assert {"--nodelist=n1,n2", "--ntasks=8", "--ntasks-per-node=4", "--nodes=2"} <= set(srun)


@pytest.mark.parametrize("launcher", launchers.LAUNCHERS)
def test_the_prefix_is_that_of_the_launcher_with_the_options_last(launcher):
    told = launchers.variables(launcher, HYDRA, SHAPE._replace(options="-v '--x=1'"))
    assert told["PARSL_MPI_PREFIX"] == told[f"PARSL_{launcher.upper()}_PREFIX"]
    assert told["PARSL_MPI_PREFIX"].startswith(launcher)
    assert told["PARSL_MPI_PREFIX"].endswith(" -v --x=1")
    assert told["PARSL_LAUNCHER_OPTIONS"] == "-v '--x=1'"
    assert told["PARSL_NUM_NODES"] == "2"
    assert told["PARSL_RANKS_PER_NODE"] == "4"
    assert told["PARSL_NUM_RANKS"] == "8"
    assert told["PARSL_MPI_NODELIST"] == "n1,n2"


@pytest.mark.parametrize(
    ("version", "flavour"),
    [
        ("mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/", OPEN_MPI),
        ("mpiexec.openmpi (Open MPI) 5.0.3", OPEN_MPI),
        ("mpiexec (PRRTE prte) 3.0.2", OPEN_MPI),
        ("HYDRA build details:\n    Version:                                 4.0.2", HYDRA),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.9", HYDRA),
        ("", HYDRA),
    ],
)
def test_which_mpiexec_it_is(version, flavour):
    assert launchers.flavour_of(version) == flavour


@pytest.mark.parametrize(
    ("compact", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-4,7]", ["n1", "n2", "n3", "n4", "n7"]),
        ("n[008-011]", ["n008", "n009", "n010", "n011"]),
        ("a1,b[2-3],c", ["a1", "b2", "b3", "c"]),
        ("r[1-2]c[1,3]-x", ["r1c1-x", "r1c3-x", "r2c1-x", "r2c3-x"]),
    ],
)
def test_a_compact_list_of_nodes(compact, names):
    assert job_nodes.expanded(compact) == names


@pytest.mark.parametrize("compact", ["n[1-2", "n1-2]", "n[[1]]", "n[a-b]", "n[1-]"])
def test_a_list_that_is_none(compact):
    with pytest.raises(job_nodes.NodesError):
        job_nodes.expanded(compact)


@given(st.lists(st.integers(0, 9999), min_size=1, unique=True))
def test_a_list_that_was_written_is_read_back(numbers):
    assert job_nodes.expanded(f"n[{','.join(map(str, numbers))}]") == [f"n{n}" for n in numbers]


FILES = {"nodes": "a\na\nb\n", "pe": "a 4 all.q@a UNDEFINED\nb 4 all.q@b UNDEFINED\n"}


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_NODELIST": "a,b"},
        {"SLURM_NODELIST": "a,b"},
        {"PBS_NODEFILE": "nodes"},
        {"COBALT_NODEFILE": "nodes"},
        {"LSB_DJOB_HOSTFILE": "nodes"},
        {"LSB_MCPU_HOSTS": "a 4 b 2"},
        {"LSB_HOSTS": "a a b"},
        {"PE_HOSTFILE": "pe"},
    ],
)
def test_each_batch_system_has_its_list(environment):
    assert job_nodes.job_nodes(environment, "login", FILES.__getitem__) == ["a", "b"]


def test_outside_of_a_job_there_is_this_node():
    assert job_nodes.job_nodes({}, "login", FILES.__getitem__) == ["login"]


def test_a_list_that_cannot_be_read_is_an_error():
    def missing(path):
        raise FileNotFoundError(path)

    with pytest.raises(job_nodes.NodesError):
        job_nodes.job_nodes({"PBS_NODEFILE": "x"}, "login", missing)


def test_the_steps_on_a_tasks_nodes():
    listing = "7.batch|n1\n7.extern|n[1-4]\n7.0|n[1-2]\n7.1|n3\n7.2|n[2-4]\n7.interactive|n1\n"
    assert sweep.steps_on(listing, ["n2"]) == ["7.0", "7.2"]
    assert sweep.steps_on(listing, ["n5"]) == []


def test_the_shorter_walltime_counts_and_is_the_one_that_is_named():
    deadlines = Deadlines(100.0)
    deadlines.begin("long")
    deadlines.begin("short", 5.0)
    deadlines.begin("longer", 500.0)
    assert deadlines.next < math.inf
    assert deadlines.passed(deadlines.next) == ["short"]
    assert "5 seconds, the walltime of its resource_specification" in deadlines.words("short")
    assert "100 seconds, which is the walltime of a task" in deadlines.words("longer")
    deadlines.end("long")
    assert deadlines.passed(deadlines.next) == ["longer"]
    assert deadlines.next == math.inf


def earlier_block():
    up = block("p", 2)
    return type(up)(
        up.pool_id, up.workers, up.credit, up.nodes, holds=["old"], placed={"old": ["p-n0"]}
    )


def test_nodes_of_tasks_from_an_earlier_process_are_theirs_until_they_end():
    packing = Packing(2, 2)
    old = waiter("old", 1)
    packing.join(earlier_block())
    packing.adopt("p", old)
    packing.add(waiter("wide", 2))
    assert packing.next(0.0) is None
    packing.free("p", [old])
    item, _, spec = packing.next(0.0)
    assert (item.task.task_id, spec["nodes"]) == ("wide", ["p-n0", "p-n1"])


def test_nodes_of_a_task_that_nobody_wants_any_more_come_back_when_it_ends():
    packing = Packing(2, 2)
    packing.join(earlier_block())
    packing.add(waiter("wide", 2))
    assert packing.next(0.0) is None
    packing.stray("p", "old")
    packing.stray("p", "unheard of")
    assert packing.next(0.0) is not None


def test_where_it_is_not_known_who_has_which_nodes_nobody_gets_any():
    packing = Packing(2, 2)
    old = waiter("old", 1)
    packing.join(block("p", 2))
    packing.adopt("p", old)
    packing.add(waiter("new", 1))
    assert packing.next(0.0) is None
    packing.free("p", [old])
    assert packing.next(0.0) is not None
