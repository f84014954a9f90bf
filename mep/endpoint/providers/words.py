"""What schedulers say, read: the state of one job in their own words. Pure.

Parsl's providers translate these words; here is kept what the translation loses: the word itself,
whether a job was listed at all, and the states that Parsl takes for an end and that are none.
"""

import json
import re
from collections.abc import Callable
from typing import Final, Literal

from mep.endpoint.providers.commands import Answer

State = Literal["pending", "running", "held", "ended", "unknown"]

_NO_SUCH_JOB: Final = re.compile(
    r"invalid job id|unknown job|job id? ?<?\S*>? (is )?not found|is not found|do(es)? not exist|"
    r"no such job|not found in queue",
    re.IGNORECASE,
)
_TIME_LIMIT: Final = re.compile(
    r"due to time limit|walltime \S+ exceeded|TERM_RUNLIMIT|exceeded its? (hard )?(wallclock|"
    r"run ?time|walltime)|job killed: walltime",
    re.IGNORECASE,
)
_UNKNOWN_JOB: Final = 153
"""Of PBS and Torque: PBSE_UNKJOBID (15001), as far as an exit status can tell."""
TIME_WORDS: Final = frozenset({"TIMEOUT", "DEADLINE", "TO", "DL"})

NOT_ENDED: Final[dict[str, dict[str, State]]] = {
    "LSFProvider": {"PSUSP": "held", "USUSP": "held", "SSUSP": "held"},
    "GridEngineProvider": {"t": "running", "s": "held", "ts": "held"},
    "CondorProvider": {"5": "held", "6": "running"},
}
"""By provider: words that Parsl takes for an end, of jobs that have not ended.

LSF's are suspended jobs (bjobs(1)); Grid Engine's t is a job on its way to its host (qstat(1));
HTCondor's 5 is held, 6 is transferring output (condor_q(1), JobStatus).
"""
NEVER_STARTS: Final = frozenset(
    {
        *("PartitionDown", "PartitionInactive", "PartitionConfig"),
        *("PartitionNodeLimit", "PartitionTimeLimit", "MaxMemPerLimit", "BadConstraints"),
        *("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"),
        *("QOSMinCpuNotSatisfied", "QOSMinGRES", "QOSMinMemory", "QOSMinNode"),
        *("DependencyNeverSatisfied", "ReservationDeleted"),
    }
)
"""Slurm's reasons of pending jobs that do not pass until somebody changes something.

From https://slurm.schedmd.com/job_reason_codes.html. A closed partition may open again, but only an
administrator knows when: it is told at once, as where sbatch refuses it. Left out is what other
jobs' ends may cure (Resources, Priority, Dependency, AssocGrp*, QOSGrp*, QOSMax*PerUser*), what
nodes may that come back (ReqNodeNotAvail; Slurm 22.05 says PartitionNodeLimit of limits alone), and
what somebody wants so (JobHeldUser, BeginTime).
"""
_OF_ONE_JOB: Final = re.compile(r"(Assoc|QOS)Max\w+PerJob(Limit)?")
"""A limit that a job exceeds by itself: AssocMaxWallDurationPerJobLimit, QOSMaxMemoryPerJob."""
_NOT_PERMITTED: Final = re.compile(r"Job's (account|QOS) not (known|permitted)")
"""squeue shows this sentence of slurmctld's for AccountNotAllowed and QOSNotAllowed."""
_LONGEST_REASON: Final = 400
LINGERING: Final = frozenset({"CondorProvider", "GridEngineProvider", "KubernetesProvider"})
"""Where a job that has ended may stay in the queue until it is removed."""


def no_such_job(answer: Answer) -> bool:
    """Whether a command failed because the scheduler does not know a job (any more).

    Every line must say so: a scheduler that cannot be reached says something else besides.
    """
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    if not lines:
        return answer.returncode == _UNKNOWN_JOB and answer.command.startswith(("qstat", "qdel"))
    return bool(lines) and all(_NO_SUCH_JOB.search(line) for line in lines)


def word_for(provider: str, job_id: str, stdout: str) -> str:
    """The scheduler's own word for a job's state; empty: the job is not listed."""
    read = _READERS.get(provider, _second_column)
    return read(job_id, stdout)


def reasons_in(stdout: str) -> dict[str, str]:
    """Why jobs are pending, of ``squeue --noheader --format='%i|%r'``.

    A job is left out that Slurm has not considered, or not again yet: ``None``.
    """
    found = {}
    for line in stdout.splitlines():
        job_id, bar, reason = line.strip().partition("|")
        if bar and reason not in ("", "None"):
            found[job_id] = reason[:_LONGEST_REASON]
    return found


def never_starts(reason: str) -> bool:
    """Whether a job that is pending for this reason stays so until somebody changes something."""
    if reason in NEVER_STARTS or _OF_ONE_JOB.fullmatch(reason):
        return True
    return _NOT_PERMITTED.match(reason) is not None


def time_was_over(word: str, stderr: str) -> bool:
    """Whether a job ended by its time limit."""
    return word in TIME_WORDS or _TIME_LIMIT.search(stderr) is not None


def _second_column(job_id: str, stdout: str) -> str:
    return _column(1, job_id, stdout)


def _fifth_column(job_id: str, stdout: str) -> str:
    return _column(4, job_id, stdout)


def _column(number: int, job_id: str, stdout: str) -> str:
    for line in stdout.splitlines():
        fields = line.split()
        if len(fields) > number and _is_named(job_id, fields[0]):
            return fields[number]
    return ""


def _is_named(job_id: str, shown: str) -> bool:
    """Schedulers shorten job ids in their tables: 12.server for 12.server.example.org."""
    if shown == job_id:
        return True
    return "." in job_id and job_id.startswith(shown) and shown.split(".")[0] == _number(job_id)


def _number(job_id: str) -> str:
    return job_id.split(".")[0]


def _pbs_json(job_id: str, stdout: str) -> str:
    try:
        jobs = json.loads(stdout).get("Jobs", {})
    except (ValueError, AttributeError):
        return ""
    for name, job in jobs.items():
        if isinstance(job, dict) and _is_named(job_id, name):
            status = job.get("Exit_status")
            state = str(job.get("job_state", ""))
            return state if status is None else f"{state}, exit status {status}"
    return ""


_READERS: Final[dict[str, Callable[[str, str], str]]] = {
    "TorqueProvider": _fifth_column,
    "GridEngineProvider": _fifth_column,
    "PBSProProvider": _pbs_json,
}
