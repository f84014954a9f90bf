"""Parsl's provider of one batch system, asked by one thread; importing it takes 0.6 s.

Parsl composes scripts and command lines and reads the answers. Its own reading takes a command
that failed for an answer, or a job that is not listed for one that is over: so the commands run
here (:mod:`mep.endpoint.providers.commands`), and an answer counts when the command had one.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mep.endpoint.engines.provider_settings import AnyProvider, pools_of
from mep.endpoint.engines.scheduler_settings import BatchSettings, walltime_text
from mep.endpoint.providers.commands import Commands
from mep.endpoint.providers.delivery import Delivery, with_encryption
from mep.endpoint.providers.jobs import Seen
from mep.endpoint.providers.pods import Pods
from mep.endpoint.providers.words import (
    LINGERING,
    NOT_ENDED,
    no_such_job,
    reasons_in,
    word_for,
)

log = logging.getLogger(__name__)

_STATES: Final = {
    "PENDING": "pending",
    "RUNNING": "running",
    "HELD": "held",
    "UNKNOWN": "unknown",
}
_NOT_PARSLS: Final = ("nodes_per_block", "launcher", "walltime", "worker_init", "packages")
_BEFORE: Final = {
    "SlurmProvider": "#SBATCH --no-requeue\n",
    "PBSProProvider": "#PBS -r n\n",
    "TorqueProvider": "#PBS -r n\n",
}
"""A job that lost a node is not run again by the scheduler: the interchange asks for another."""


_ONE_POOL_A_STEP: Final = {
    "SrunMPILauncher": "--ntasks=1 --cpus-per-task=$SLURM_CPUS_ON_NODE",
}
"""A step would have as many tasks as the job has nodes, all of them on one node."""


class SchedulerError(Exception):
    """The scheduler has refused, or has not answered; the message is in its own words."""


class Scheduler:
    """One batch system, as one provider's settings describe it.

    Args:
        settings: of the provider.
        nodes: of a block.
        commands: what runs the scheduler's commands.
    """

    def __init__(self, settings: AnyProvider, nodes: int, commands: Commands) -> None:
        self._kind = settings.name()
        self._commands = commands
        self._timeout = getattr(settings, "cmd_timeout", 10)
        self._worker_init = settings.worker_init
        self._pods: Pods | None = None
        self._parsl = self._build(settings, nodes)
        self._files = tuple(getattr(self._parsl, "transfer_input_files", ()))
        self._options = getattr(self._parsl, "scheduler_options", "")

    @property
    def lingers(self) -> bool:
        """Whether jobs that have ended stay in the queue until they are cancelled."""
        return self._kind in LINGERING

    def submit(
        self,
        delivered: Delivery,
        name: str,
        directory: Path,
        preface: str,
        noted: Callable[[str, dict[str, str]], None],
    ) -> str:
        """Submit a block; the job's id.

        Args:
            delivered: what it needs, and how it starts.
            name: of the job.
            directory: for its script and output.
            preface: shell lines to run before ``worker_init``.
            noted: is told the job's id and resource where they are known before there is a job.

        Raises:
            SchedulerError: it was not taken.
        """
        self._parsl.script_dir = self._commands.directory = str(directory)
        self._parsl.worker_init = f"{preface}{self._worker_init}\n"
        self._commands.answers.clear()
        self._deliver(delivered, noted)
        try:
            job_id = self._parsl.submit(delivered.command, 1, name)
        except Exception as error:
            raise SchedulerError(self._refusal() or str(error)) from error
        finally:
            self._commands.directory = "/"
        if not job_id:
            raise SchedulerError(self._refusal() or "the scheduler named no job")
        return str(job_id)

    def _deliver(self, delivered: Delivery, noted: Callable[[str, dict[str, str]], None]) -> None:
        if self._pods is not None:
            # Parsl's id of a pod ends its name.
            self._pods.prepare(
                delivered.secret,
                lambda name: noted(name.rpartition(".")[2], {"pod_name": name}),
            )
        if delivered.transferred:
            files = [str(path) for path in delivered.transferred]
            self._parsl.transfer_input_files = [*self._files, *files]
            self._parsl.scheduler_options = with_encryption(self._options, files[0])

    def resource(self, job_id: str) -> dict[str, str]:
        """What :meth:`adopt` needs to be told of this job by another process."""
        known = self._parsl.resources[job_id]
        return {key: value for key, value in known.items() if isinstance(value, str)}

    def adopt(self, job_id: str, resource: Mapping[str, str]) -> None:
        """Know a job of an earlier process."""
        self._parsl.resources[job_id] = {
            "job_stdout_path": None,
            "job_stderr_path": None,
            **resource,
            "status": self._status("PENDING"),
        }

    def query(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        """What the scheduler says of these jobs.

        Raises:
            SchedulerError: it does not answer.
        """
        try:
            return self._ask(job_ids)
        except _NoSuchJob:
            if len(job_ids) == 1:
                return {job_ids[0]: Seen("missing")}
        # One that it does not know spoils the answer about all others.
        found: dict[str, Seen] = {}
        for job_id in job_ids:
            found |= self.query([job_id])
        return found

    def reasons(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Why these jobs are pending, by their ids; empty where the scheduler is not Slurm.

        One that is left out has none that is known. That is said of all when the question fails:
        it adds to the answer of :meth:`query`, which stands.
        """
        if self._kind != "SlurmProvider" or not job_ids:
            return {}
        # Parsl asks for the state alone.
        clusters = f" --clusters={self._parsl.clusters}" if self._parsl.clusters else ""
        asked = f"squeue{clusters} --noheader --format='%i|%r' --job '{','.join(job_ids)}'"
        self._commands.answers.clear()
        status, stdout, _ = self._commands.run(asked, float(self._timeout))
        if status:
            log.info("why jobs are pending is not known: %s", self._refusal())
            return {}
        return reasons_in(stdout)

    def cancel(self, job_ids: Sequence[str]) -> None:
        """End these jobs; that one has ended before is no error.

        Raises:
            SchedulerError: it does not answer, or will not.
        """
        self._commands.answers.clear()
        try:
            done = self._parsl.cancel(list(job_ids))
        except Exception as error:
            raise SchedulerError(self._refusal() or str(error)) from error
        refusals = [answer for answer in self._commands.answers if answer.returncode]
        if not all(done) and not all(map(no_such_job, refusals)):
            raise SchedulerError(self._refusal())

    def forget(self, job_id: str) -> None:
        """It has ended: ask of it no more."""
        self._parsl.resources.pop(job_id, None)

    def _ask(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        everything = self._parsl.resources
        # Parsl asks of all that it knows, and never again of what it once took for ended.
        self._parsl.resources = {
            job_id: {**everything[job_id], "status": self._status("PENDING")} for job_id in job_ids
        }
        self._commands.answers.clear()
        if self._pods is not None:
            self._pods.begin()
        try:
            statuses = self._parsl.status(list(job_ids))
        except Exception as error:
            raise SchedulerError(self._refusal() or str(error)) from error
        finally:
            self._parsl.resources = everything
        if self._pods is not None and self._pods.failure:
            raise SchedulerError(self._pods.failure)
        for answer in self._commands.answers:
            if answer.returncode and no_such_job(answer):
                raise _NoSuchJob
            if answer.returncode:
                raise SchedulerError(answer.words)
        return {
            job_id: self._seen(job_id, status.state.name)
            for job_id, status in zip(job_ids, statuses, strict=True)
        }

    def _seen(self, job_id: str, state: str) -> Seen:
        if (
            self._pods is not None
            and self._parsl.resources[job_id]["pod_name"] in self._pods.missing
        ):
            return Seen("missing")
        if not self._commands.answers:  # asked through an interface in Python
            return Seen(_STATES.get(state, "ended"), state)
        stdout = "\n".join(answer.stdout for answer in self._commands.answers)
        word = word_for(self._kind, job_id, stdout)
        if not word:
            return Seen("missing")
        corrected = NOT_ENDED.get(self._kind, {}).get(word)
        return Seen(corrected or _STATES.get(state, "ended"), word)

    def _refusal(self) -> str:
        failed = [answer for answer in self._commands.answers if answer.returncode]
        return failed[-1].words if failed else ""

    def _build(self, settings: AnyProvider, nodes: int) -> Any:
        import parsl.providers
        from parsl.providers.cluster_provider import ClusterProvider

        commands, timeout = self._commands, self._timeout

        class Watched(ClusterProvider):
            def execute_wait(self, cmd: str, timeout: int | None = timeout) -> Any:
                return commands.run(cmd, float(timeout or self.cmd_timeout))

        kind = getattr(parsl.providers, self._kind)
        keywords = _keywords(settings, kind, nodes)
        if issubclass(kind, ClusterProvider):
            # After Parsl's class, so that its own calls of super() come here too.
            kind = type(self._kind, (kind, Watched), {})
        # What it would log is told by what is raised here.
        logging.getLogger("parsl").setLevel(logging.CRITICAL)
        # Some versions of the client log what they get, Secrets too.
        logging.getLogger("kubernetes").setLevel(logging.WARNING)
        try:
            provider = kind(**keywords)
        except Exception as error:
            raise SchedulerError(f"{self._kind} cannot be used: {error}") from error
        if hasattr(provider, "kube_client"):
            provider.kube_client = self._pods = Pods(provider.kube_client)
        return provider

    @staticmethod
    def _status(name: str) -> Any:
        from parsl.jobs.states import JobState, JobStatus

        return JobStatus(JobState[name])


class _NoSuchJob(Exception):
    pass


def _keywords(settings: AnyProvider, kind: Any, nodes: int) -> dict[str, Any]:
    """The settings as keyword arguments of Parsl's class."""
    import inspect

    taken = inspect.signature(kind.__init__).parameters
    keywords = {
        name: getattr(settings, name)
        for name in settings.__struct_fields__
        if name in taken and name not in _NOT_PARSLS
    }
    for name in ("transfer_input_files", "persistent_volumes"):
        if name in keywords:
            keywords[name] = list(keywords[name])
    if "nodes_per_block" in taken:
        keywords["nodes_per_block"] = nodes
    if isinstance(settings, BatchSettings):
        keywords["walltime"] = walltime_text(settings.walltime_s)
        keywords["scheduler_options"] = (
            _BEFORE.get(settings.name(), "") + settings.scheduler_options
        )
    launcher = getattr(settings, "launcher", None)
    if launcher is not None:
        keywords["launcher"] = _launcher(launcher, pools_of(settings, nodes))
    return keywords


def _launcher(settings: Any, pools: int) -> Any:
    import parsl.launchers

    kind = getattr(parsl.launchers, settings.name())

    def call(self: Any, command: str, tasks: int, nodes: int, script_dir: str = "") -> Any:
        return kind.__call__(self, command, tasks, min(nodes, pools), script_dir)

    launcher = type(kind.__name__, (kind,), {"__call__": call})
    keywords = {name: getattr(settings, name) for name in settings.__struct_fields__}
    if settings.name() in _ONE_POOL_A_STEP:
        keywords["overrides"] = f"{_ONE_POOL_A_STEP[settings.name()]} {settings.overrides}"
    return launcher(**keywords)
