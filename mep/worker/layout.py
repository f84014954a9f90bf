"""What each worker of a node gets: cores, accelerators, variables. Pure.

Settings and variables as in Parsl's HighThroughputExecutor, which functions of users know.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from mep.wire.node import workers_of


class LayoutError(Exception):
    """The settings do not fit this node; the message is a sentence."""


class Node(NamedTuple):
    """What there is."""

    cores: Sequence[int]
    """Numbers of those that may be used, ascending."""
    memory_gb: float


class Share(NamedTuple):
    """What one worker gets."""

    cores: Optional[List[int]]
    """Those it is bound to; None: all."""
    environment: Dict[str, str]


def layout(node: Node, settings: Dict[str, Any]) -> List[Share]:
    """The share of each worker.

    Args:
        node: the machine.
        settings: ``max_workers``, ``cores_per_worker``, ``mem_per_worker``, ``cpu_affinity`` and
            ``accelerators``, see :class:`mep.worker.settings.Settings`.

    Raises:
        LayoutError: more workers than an affinity can serve.
    """
    accelerators = named(settings["accelerators"])
    count = workers_of(
        len(node.cores),
        node.memory_gb,
        len(accelerators),
        settings["max_workers"],
        settings["cores_per_worker"],
        settings["mem_per_worker"],
    )
    bound = affinity(settings["cpu_affinity"], node.cores, count)
    return [
        Share(
            bound[number] if bound else None,
            {
                "PARSL_WORKER_RANK": str(number),
                "PARSL_WORKER_COUNT": str(count),
                **(threads_on(bound[number]) if bound else {}),
                **(visible(accelerators[number]) if accelerators else {}),
            },
        )
        for number in range(count)
    ]


def named(accelerators: Union[int, Sequence[str], None]) -> List[str]:
    """The accelerators of a node; a number stands for 0, 1, 2..."""
    if isinstance(accelerators, int):
        return [str(number) for number in range(accelerators)]
    return list(accelerators or ())


def affinity(how: str, cores: Sequence[int], workers: int) -> List[List[int]]:
    """The cores of each worker; empty: nobody is bound.

    Raises:
        LayoutError: not a core for each.
    """
    if how == "none":
        return []
    if how.startswith("list:"):
        bound = parsed(how)
        if len(bound) < workers:
            raise LayoutError(
                "cpu_affinity lists cores for %d workers, and there are %d; "
                "list more or set max_workers_per_node" % (len(bound), workers)
            )
        return bound[:workers]
    each = len(cores) // workers
    if each == 0:
        raise LayoutError(
            "cpu_affinity %s needs a core for each of %d workers, and this node has %d; "
            "set max_workers_per_node" % (how, workers, len(cores))
        )
    if how == "alternating":
        return [list(cores[number::workers]) for number in range(workers)]
    blocks = [list(cores[number * each : (number + 1) * each]) for number in range(workers)]
    return blocks[::-1] if how == "block-reverse" else blocks


def parsed(how: str) -> List[List[int]]:
    """``[[0, 1, 2, 3], [8]]`` of ``list:0-3:8``."""
    return [_cores(part) for part in how[len("list:") :].split(":")]


def _cores(part: str) -> List[int]:
    cores: List[int] = []
    for piece in part.split(","):
        first, _, last = piece.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def threads_on(cores: Sequence[int]) -> Dict[str, str]:
    """OpenMP: one thread a core, and where."""
    numbers = ",".join(map(str, cores))
    return {
        "OMP_NUM_THREADS": str(len(cores)),
        "GOMP_CPU_AFFINITY": numbers,
        "KMP_AFFINITY": "explicit,proclist=[%s]" % numbers,
    }


def visible(accelerator: str) -> Dict[str, str]:
    """The variables by which NVIDIA, AMD and Intel show only this accelerator."""
    return {
        "CUDA_VISIBLE_DEVICES": accelerator,
        "ROCR_VISIBLE_DEVICES": accelerator,
        "ZE_AFFINITY_MASK": accelerator,
        "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1",
    }
