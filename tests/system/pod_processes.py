"""Pods that are processes of this machine, each in a mount namespace of its own."""

import base64
import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mep.endpoint.runtime.runtime import Runtime


class PodProcesses:
    """Runs pods. Their image is this machine, with ``mep-pool`` and without what is hidden.

    Args:
        directory: seen by the pods: the image's programs, and what pods write.
        hidden: is an empty directory in each pod.
    """

    def __init__(self, directory: Path, hidden: Sequence[Path]) -> None:
        self._directory = directory
        self._hidden = hidden
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._programs = directory / "bin"
        self._programs.mkdir()
        pool = self._programs / "mep-pool"
        carried = Runtime(str(directory)).carried(directory)
        pool.write_text(f'#!/bin/sh\nexec sh {carried} "$@"\n')
        pool.chmod(0o755)

    def start(self, pod: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        """With its Secrets where they are to be mounted."""
        name = pod["metadata"]["name"]
        spec = pod["spec"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        lines = [f"mount -t tmpfs tmpfs {path}" for path in (*self._hidden, "/run")]
        for mount in container["volumeMounts"]:
            source = volumes[mount["name"]]["secret"]
            lines += _placed(mount["mountPath"], source, secrets[source["secretName"]])
        line = shlex.join([*container["command"], *container["args"]])
        path = f"{self._programs}:/usr/bin:/bin"
        lines.append(f"cd /; exec env -i PATH={path} MEP_TEST_POD={name} {line}")
        with (self._directory / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-e"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pipe = self._running[name].stdin
        assert pipe is not None
        with pipe:
            pipe.write("\n".join(lines).encode())

    def phase(self, name: str) -> str:
        """As Kubernetes calls it."""
        status = self._running[name].poll()
        if status is None:
            return "Running"
        return "Failed" if status else "Succeeded"

    def end(self, name: str) -> None:
        """With all that it started."""
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):  # ended by itself, and nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end_all(self) -> None:
        """Of a test that failed, too."""
        for name in list(self._running):
            self.end(name)


def _placed(where: str, source: Mapping[str, Any], secret: Mapping[str, Any]) -> list[str]:
    lines = [f"mkdir -p {where}"]
    for key, value in secret["data"].items():
        content = shlex.quote(base64.b64decode(value).decode())
        lines.append(f"printf %s {content} > {where}/{key}")
        lines.append(f"chmod {source['defaultMode']:o} {where}/{key}")
    return lines
