"""PBS, Torque, LSF, Grid Engine and HTCondor, by what they are known to answer: none is here.

And Slurm, which is, where it answers what it seldom does.
"""

import json
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_harness import LIMIT_S, until
from fake_scheduler import FakeScheduler, HangingScheduler

from mep.endpoint.engines.provider_settings import read_provider
from mep.endpoint.providers.base import Ended
from mep.endpoint.providers.batch import BatchProvider

COMMAND = ["/usr/bin/python3", "-I", "-m", "mep.worker.pool", "/home/alice/.mep/x/pool.json"]


@dataclass(frozen=True)
class Dialect:
    """One batch system: its commands, and what they answer."""

    name: str
    submit: str
    status: str
    cancel: str
    taken: str
    """Answer to a submission."""
    job_id: str
    pending: str
    running: str
    ended: str
    over: str
    """The word for that."""
    down: tuple[str, int]
    """stderr and status of a query when the scheduler cannot be reached."""
    refused: tuple[str, int]
    script: tuple[str, ...]
    """Lines of the job's script or command line."""
    settings: dict[str, Any]


def torque(state: str) -> str:
    return (
        "Job ID                    Name             User            Time Use S Queue\n"
        "------------------------- ---------------- --------------- -------- - -----\n"
        f"12.pbs-server              parsl.mep-0.17   alice           00:00:01 {state} batch\n"
    )


def pbs(state: str, **more: Any) -> str:
    return json.dumps({"Jobs": {"41.server": {"job_state": state, **more}}})


def grid(state: str) -> str:
    return (
        "job-ID  prior   name       user         state submit/start at     queue        slots\n"
        "------------------------------------------------------------------------------------\n"
        f"    231 0.55500 mep-0.1700 alice        {state}     11/21/2026 07:00:01 all.q@n1  1\n"
    )


DIALECTS = [
    Dialect(
        "TorqueProvider", "qsub", "qstat", "qdel",
        taken="12.pbs-server.example.org\n",
        job_id="12.pbs-server.example.org",
        pending=torque("Q"),
        running=torque("R"),
        ended=torque("C"),
        over="C",
        down=("qstat: cannot connect to server pbs-server (errno=111) Connection refused\n", 111),
        refused=("qsub: submit error (Unknown queue MSG=cannot locate queue)\n", 170),
        script=("#PBS -l walltime=00:20:00", "#PBS -l nodes=1:ppn=1", "#PBS -r n"),
        settings={"queue": "batch", "launcher": {"type": "SimpleLauncher"}},
    ),
    Dialect(
        "PBSProProvider", "qsub", "qstat", "qdel",
        taken="41.server\n",
        job_id="41.server",
        pending=pbs("Q"),
        running=pbs("R"),
        ended=pbs("F", Exit_status=271),
        over="F, exit status 271",
        down=("Connection refused\nqstat: cannot connect to server server (errno=111)\n", 111),
        refused=("qsub: Unknown queue\n", 170),
        script=("#PBS -l select=1:ncpus=4:ngpus=2", "#PBS -l walltime=00:20:00", "#PBS -r n"),
        settings={"account": "proj", "cpus_per_node": 4, "select_options": "ngpus=2"},
    ),
    Dialect(
        "LSFProvider", "bsub", "bjobs", "bkill",
        taken="Job <1001> is submitted to queue <normal>.\n",
        job_id="1001",
        pending="1001 PEND\n",
        running="1001 RUN\n",
        ended="1001 EXIT\n",
        over="EXIT",
        down=("LSF is down. Please wait ...\n", 255),
        refused=("nonesuch: No such queue. Job not submitted.\n", 255),
        script=("#BSUB -W 10", "#BSUB -nnodes 1", "#BSUB -P proj", "#BSUB -q normal"),
        settings={"project": "proj", "queue": "normal"},
    ),
    Dialect(
        "GridEngineProvider", "qsub", "qstat", "qdel",
        taken="231\n",
        job_id="231",
        pending=grid("qw"),
        running=grid("r"),
        ended=grid("Eqw"),
        over="Eqw",
        down=("error: unable to contact qmaster using port 6444 on host m\n", 1),
        refused=("Unable to run job: unknown queue \"nonesuch\".\nExiting.\n", 1),
        script=("#$ -l h_rt=00:10:00", "#$ -cwd"),
        settings={"queue": "all.q"},
    ),
    Dialect(
        "CondorProvider", "condor_submit", "condor_q", "condor_rm",
        taken="Submitting job(s).\n1 job(s) submitted to cluster 118907.\n",
        job_id="118907.0",
        pending="118907.0 1\n",
        running="118907.0 2\n",
        ended="118907.0 4\n",
        over="4",
        down=("Error: Couldn't contact the condor_collector on host.\n", 1),
        refused=("ERROR: Failed to connect to local queue manager\n", 1),
        script=("universe                = vanilla", "machine_count           = 1"),
        settings={},
    ),
]  # fmt: skip
ALL = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


@pytest.fixture
def provide(tmp_path) -> Iterator[Callable[..., BatchProvider]]:
    """Makes providers; what they started is forgotten at the end."""
    home = tmp_path / "endpoint"
    (home / "blocks").mkdir(mode=0o700, parents=True)
    made = []

    def make(
        scheduler: FakeScheduler, name: str, fingerprint: str = "one", **settings: Any
    ) -> BatchProvider:
        read = read_provider({"type": name, **settings})
        one = BatchProvider(read, 1, str(home), scheduler.environment, fingerprint)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "endpoint"


def fake(tmp_path: Path, dialect: Dialect, kind: type[FakeScheduler] = FakeScheduler):
    where = tmp_path / "scheduler"
    where.mkdir()
    scheduler = kind(where, dialect.submit, dialect.status, dialect.cancel)
    scheduler.answer(dialect.submit, dialect.taken)
    scheduler.answer(dialect.status, dialect.pending)
    return scheduler


def state(provider: BatchProvider) -> str:
    return ",".join(one.state for one in provider.states())


def job_ids(provider: BatchProvider) -> list[str]:
    return [one.job_id for one in provider.states()]


def becomes(provider: BatchProvider, wanted: str) -> None:
    """Wait for the eventfd to tell that the one block has this state."""
    poll = select.poll()
    poll.register(provider.descriptors()[0], select.POLLIN)
    while state(provider) != wanted:
        assert poll.poll(LIMIT_S * 1000), f"{state(provider)} never became {wanted}"
        assert provider.ended() == []


def end_of(provider: BatchProvider) -> Ended:
    poll = select.poll()
    poll.register(provider.descriptors()[0], select.POLLIN)
    while True:
        assert poll.poll(LIMIT_S * 1000), f"never ended: {provider.states()}"
        if ended := provider.ended():
            (one,) = ended
            return one


def asked_again(scheduler: FakeScheduler, dialect: Dialect, provider: BatchProvider) -> None:
    count = len(scheduler.asked(dialect.status))
    provider.look("0")
    until(lambda: len(scheduler.asked(dialect.status)) > count, "another query")


@ALL
def test_a_block_from_submission_to_end(dialect, tmp_path, provide, home):
    scheduler = fake(tmp_path, dialect)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "pending")
    (block,) = provider.states()
    assert block.job_id == dialect.job_id
    assert dialect.job_id in (home / "blocks/0/job.json").read_text()
    written = "\n".join(
        path.read_text() for path in (home / "blocks/0").iterdir() if path.name != "job.json"
    )
    for line in (*dialect.script, "export MEP_BLOCK_BEGAN=$(date +%s)", " ".join(COMMAND)):
        assert line in written
    scheduler.answer(dialect.status, dialect.running)
    provider.look("0")
    becomes(provider, "running")
    scheduler.answer(dialect.status, dialect.ended)
    provider.look("0")
    ended = end_of(provider)
    assert ended.how == f"ended with its job {dialect.job_id} ({dialect.over})"
    assert not (home / "blocks/0/job.json").exists()


@ALL
def test_a_scheduler_that_cannot_be_reached_ends_nothing(dialect, tmp_path, provide):
    scheduler = fake(tmp_path, dialect)
    scheduler.answer(dialect.status, dialect.running)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "running")
    scheduler.answer(dialect.status, "", *dialect.down)
    provider.look("0")
    becomes(provider, "unknown")
    asked_again(scheduler, dialect, provider)
    assert state(provider) == "unknown"
    scheduler.answer(dialect.status, dialect.running)
    provider.look("0")
    becomes(provider, "running")


@ALL
def test_a_job_that_is_missing_once_has_not_ended(dialect, tmp_path, provide):
    scheduler = fake(tmp_path, dialect)
    scheduler.answer(dialect.status, dialect.running)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "running")
    scheduler.answer(dialect.status, "{}" if dialect.name == "PBSProProvider" else "")
    asked_again(scheduler, dialect, provider)
    assert provider.ended() == []
    ended = end_of(provider)
    assert ended.how == f"ended with its job {dialect.job_id} (it is no longer in the queue)"


@ALL
def test_a_refusal_is_told_in_the_schedulers_words(dialect, tmp_path, provide, home):
    scheduler = fake(tmp_path, dialect)
    scheduler.answer(dialect.submit, "", *dialect.refused)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    ended = end_of(provider)
    assert ended.how == f"could not be submitted: {dialect.refused[0].strip()}"
    assert scheduler.asked(dialect.status) == []
    assert not (home / "blocks/0/job.json").exists()


@ALL
def test_a_submission_that_hangs_is_given_up(dialect, tmp_path, provide):
    scheduler = fake(tmp_path, dialect, HangingScheduler)
    provider = provide(scheduler, dialect.name, **dialect.settings, cmd_timeout=1)
    provider.start("0", COMMAND, {})
    assert end_of(provider).how == (
        f"could not be submitted: {dialect.submit} did not answer within 1 seconds"
    )


@ALL
def test_a_block_is_cancelled_by_its_job(dialect, tmp_path, provide):
    scheduler = fake(tmp_path, dialect)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "pending")
    provider.kill("0")
    assert end_of(provider).how == f"was ended: its job {dialect.job_id} was cancelled"
    assert dialect.job_id in scheduler.asked(dialect.cancel)[0]


@ALL
def test_a_new_process_finds_the_job(dialect, tmp_path, provide):
    scheduler = fake(tmp_path, dialect)
    first = provide(scheduler, dialect.name, **dialect.settings)
    first.start("0", COMMAND, {})
    becomes(first, "pending")
    scheduler.answer(dialect.status, dialect.running)
    second = provide(scheduler, dialect.name, **dialect.settings)
    assert second.adopt() == ["0"]
    becomes(second, "running")
    assert len(scheduler.asked(dialect.submit)) == 1


def test_one_query_is_about_all_jobs_and_one_unknown_job_spoils_no_other(tmp_path, provide):
    (dialect,) = [one for one in DIALECTS if one.name == "LSFProvider"]
    scheduler = fake(tmp_path, dialect)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    for number in range(3):
        scheduler.answer("bsub", dialect.taken.replace("1001", str(1001 + number)))
        scheduler.answer("bjobs", "1001 RUN\n1002 RUN\n1003 RUN\n")
        provider.start(str(number), COMMAND, {})
        until(lambda n=number: job_ids(provider)[n:] == [str(1001 + n)], "submitted")
    becomes(provider, "running,running,running")
    asked_again(scheduler, dialect, provider)
    assert "1001 1002 1003" in scheduler.asked("bjobs")[-1]
    scheduler.answer("bjobs", "1001 RUN\n1003 RUN\n", "Job <1002> is not found\n", 255)
    provider.look("0")
    one_by_one = "\n".join(
        f"-noheader -o jobid stat {which}" for which in ("1001 1002 1003", "1001", "1002", "1003")
    )
    until(lambda: one_by_one in "\n".join(scheduler.asked("bjobs")), "asked one by one")


def test_a_suspended_job_of_lsf_has_not_ended(tmp_path, provide):
    (dialect,) = [one for one in DIALECTS if one.name == "LSFProvider"]
    scheduler = fake(tmp_path, dialect)
    scheduler.answer("bjobs", "1001 USUSP\n")
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "held")


@pytest.mark.parametrize("name", ["GridEngineProvider", "CondorProvider"])
def test_a_job_that_stays_in_the_queue_after_its_end_is_removed(name, tmp_path, provide):
    (dialect,) = [one for one in DIALECTS if one.name == name]
    scheduler = fake(tmp_path, dialect)
    scheduler.answer(dialect.status, dialect.ended)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    end_of(provider)
    assert dialect.job_id in scheduler.asked(dialect.cancel)[0]


def test_a_job_of_another_configuration_is_cancelled_and_not_told_of(tmp_path, provide, home):
    dialect = DIALECTS[0]
    scheduler = fake(tmp_path, dialect)
    first = provide(scheduler, dialect.name, **dialect.settings)
    first.start("0", COMMAND, {})
    becomes(first, "pending")
    other = provide(scheduler, dialect.name, fingerprint="another", **dialect.settings)
    assert other.adopt() == []
    until(lambda: dialect.job_id in "".join(scheduler.asked("qdel")), "qdel")
    until(lambda: not (home / "blocks/0/job.json").exists(), "the record gone")
    assert other.ended() == []


def test_a_cancellation_that_fails_is_tried_again_and_its_record_stays(tmp_path, provide, home):
    dialect = DIALECTS[0]
    scheduler = fake(tmp_path, dialect)
    scheduler.answer("qdel", "", "qdel: cannot connect to server\n", 111)
    provider = provide(scheduler, dialect.name, **dialect.settings)
    provider.start("0", COMMAND, {})
    becomes(provider, "pending")
    provider.kill("0")
    assert end_of(provider).how == "could not be cancelled: qdel: cannot connect to server"
    assert len(scheduler.asked("qdel")) == 3
    assert (home / "blocks/0/job.json").exists()
    scheduler.answer("qdel")
    until(lambda: not (home / "blocks/0/job.json").exists(), "cancelled after all")
    assert provider.ended() == []


def test_a_command_that_a_launcher_would_read_again_is_refused(tmp_path, provide):
    scheduler = fake(tmp_path, DIALECTS[0])
    provider = provide(scheduler, "TorqueProvider")
    with pytest.raises(OSError, match="cannot pass on"):
        provider.start("0", ["python3", "$HOME/x"], {})


@pytest.fixture
def fake_slurm(tmp_path) -> FakeScheduler:
    """Has accounting, and a job 12 that waits."""
    where = tmp_path / "scheduler"
    where.mkdir()
    scheduler = FakeScheduler(where, "sbatch", "sacct", "squeue", "scancel")
    scheduler.answer("sbatch", "Submitted batch job 12\n")
    scheduler.answer("sacct", "12                 PENDING\n")
    return scheduler


def why_asked_again(scheduler: FakeScheduler, provider: BatchProvider) -> None:
    """What follows a question is known when the next one has come."""
    count = len(scheduler.asked("squeue"))
    for number in (1, 2):
        provider.look("0")
        until(lambda n=number: len(scheduler.asked("squeue")) >= count + n, "another question")


def test_an_ordinary_reason_and_one_that_is_not_known_end_nothing(fake_slurm, provide):
    fake_slurm.answer("squeue", "12|Priority\n")
    provider = provide(fake_slurm, "SlurmProvider")
    provider.start("0", COMMAND, {})
    until(lambda: [one.reason for one in provider.states()] == ["Priority"], "its reason")
    before, _, _ = fake_slurm.calls.read_text().partition("/squeue ")
    assert before.count("--job 12") == 2
    assert fake_slurm.asked("squeue")[0] == "--noheader --format=%i|%r --job 12"
    why_asked_again(fake_slurm, provider)
    fake_slurm.answer(
        "squeue", "", "slurm_load_jobs error: Unable to contact slurm controller\n", 1
    )
    why_asked_again(fake_slurm, provider)
    (block,) = provider.states()
    assert (block.state, block.reason) == ("pending", "Priority")
    assert provider.ended() == []
    assert fake_slurm.asked("scancel") == []


def test_a_job_that_slurm_will_never_start_is_cancelled_with_the_reason(fake_slurm, provide, home):
    fake_slurm.answer("squeue", "12|PartitionTimeLimit\n")
    provider = provide(fake_slurm, "SlurmProvider")
    provider.start("0", COMMAND, {})
    ended = end_of(provider)
    assert ended.how == "was ended: Slurm keeps it pending: PartitionTimeLimit"
    assert len(fake_slurm.asked("squeue")) == 2
    assert fake_slurm.asked("scancel") == ["12"]
    assert not (home / "blocks/0/job.json").exists()
    (block,) = provider.states()
    assert (block.state, block.why) == ("ended", ended.how)


def test_a_cancellation_that_fails_at_first_keeps_the_reason(fake_slurm, provide):
    fake_slurm.answer("squeue", "12|PartitionDown\n")
    fake_slurm.answer("scancel", "", "scancel: error: Unable to contact slurm controller\n", 1)
    provider = provide(fake_slurm, "SlurmProvider")
    provider.start("0", COMMAND, {})
    until(lambda: fake_slurm.asked("scancel"), "a cancellation")
    fake_slurm.answer("scancel")
    assert end_of(provider).how == "was ended: Slurm keeps it pending: PartitionDown"
