"""Tasks that are spread over the nodes of a block: their variables, and their nodes when they end.

A launcher that is killed may leave its ranks behind on other nodes. Under Slurm those are found by
the steps that run on the task's nodes, which no other task has, and ended before anybody hears
that the task is over: then its nodes go to the next.
"""

import json
import os
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set

from mep.worker.execute import Outcome
from mep.worker.launchers import HYDRA, flavour_of, shape_of, variables
from mep.worker.poll import Poll

_VERSION_S = 20.0


class Spread:
    """The tasks of one node pool that have nodes.

    Args:
        launcher: one of :data:`mep.worker.launchers.LAUNCHERS`.
        flavour: of ``mpiexec``.
        nodes: of the block.
        environment: of the job; its ``SLURM_JOB_ID``, if it has one, is looked at.
    """

    def __init__(
        self,
        launcher: str,
        flavour: str,
        nodes: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.nodes = list(nodes)
        self._launcher = launcher
        self._flavour = flavour
        self._job = environment.get("SLURM_JOB_ID", "")
        self._nodes: Dict[str, List[str]] = {}
        self._sweeping: Set[str] = set()

    def attach(self, poll: Poll, over: Callable[[Outcome], None]) -> None:
        """Sweepers are waited for in `poll`; `over` is told the outcome of each task, when its
        nodes are free.
        """
        self._poll = poll
        self._over = over

    @property
    def sweeping(self) -> List[str]:
        """Tasks that have ended, but for what may be left of them."""
        return list(self._sweeping)

    @property
    def placed(self) -> Dict[str, List[str]]:
        """Tasks that have nodes, and which."""
        return dict(self._nodes)

    def begin(self, task_id: str, spec: Dict[str, Any]) -> None:
        """A task has been given nodes: add its variables to its ``spec``."""
        self._nodes[task_id] = spec["nodes"]
        spec["environment"] = variables(self._launcher, self._flavour, shape_of(spec))

    def forget(self, task_ids: Sequence[str]) -> None:
        """They go back: they have not begun."""
        for task_id in task_ids:
            self._nodes.pop(task_id, None)

    def end(self, outcome: Outcome) -> None:
        """A task has ended; one whose processes were killed is looked after before that is told."""
        fields, _ = outcome
        nodes = self._nodes.pop(fields[0], [])
        killed = fields[2] in ("CANCELLED", "WALLTIME_EXCEEDED", "WORKER_LOST")
        if killed and nodes and fields[5] and self._job and shutil.which("squeue"):
            self._nodes[fields[0]] = nodes
            self._sweep(outcome, nodes)
        else:
            self._over(outcome)

    def _sweep(self, outcome: Outcome, nodes: Sequence[str]) -> None:
        task_id = outcome[0][0]
        self._sweeping.add(task_id)
        told = json.dumps({"job": self._job, "nodes": list(nodes)})
        ended, held = os.pipe()
        sweeper = subprocess.Popen(
            [sys.executable, "-I", "-c", _ENTRY % {"path": sys.path}, told],
            stdin=subprocess.DEVNULL,
            stdout=held,
        )
        os.close(held)

        def swept(_events: int) -> None:
            self._poll.remove(ended)
            os.close(ended)
            sweeper.wait()
            self._sweeping.discard(task_id)
            self._nodes.pop(task_id, None)
            self._over(outcome)

        self._poll.add(ended, swept)


_ENTRY = "import sys; sys.path[:] = %(path)r; from mep.worker.sweep import main; sys.exit(main())"


def asked_flavour() -> str:
    """Which ``mpiexec`` there is: functions may use its prefix, whichever the launcher is."""
    try:
        asked = subprocess.run(
            ["mpiexec", "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return HYDRA
    return flavour_of(asked.stdout.decode("utf-8", "replace"))
