"""HTCondor that is not here: its commands run each job on this machine, as a node would.

A job has a directory of its own with the files that were to be transferred and no others, and does
not see what is hidden from it. Run as a program this is one of the commands.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RUNNING, COMPLETED = 2, 4
"""JobStatus of condor_q(1)."""


class FakeCondor:
    """Commands on a PATH of their own, and the jobs that they start.

    Args:
        directory: for the commands and for what jobs find on their nodes.
        hidden: is an empty directory for jobs.
    """

    def __init__(self, directory: Path, hidden: Sequence[Path]) -> None:
        self.directory = directory
        self.path = f"{directory}/bin:/usr/bin:/bin"
        (directory / "bin").mkdir()
        (directory / "jobs").mkdir()
        (directory / "hidden.json").write_text(json.dumps([*map(str, hidden)]))
        for command in ("condor_submit", "condor_q", "condor_rm"):
            place = directory / "bin" / command
            own = shlex.join([sys.executable, "-I", __file__, str(directory), command])
            place.write_text(f'#!/bin/sh\nexec {own} "$@"\n')
            place.chmod(0o755)

    def descriptions(self) -> list[dict[str, str]]:
        """What each job asked for."""
        return [described(path) for path in sorted(self.directory.glob("jobs/*/described"))]

    def end_all(self) -> None:
        """Of a test that failed, too."""
        for job in (self.directory / "jobs").iterdir():
            remove(job)


def described(path: Path) -> dict[str, str]:
    """A submit description; as HTCondor does, the last line of a name counts."""
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def submit(directory: Path, description: Path) -> None:
    wanted = described(description)
    number = len(list((directory / "jobs").iterdir())) + 1
    job = directory / "jobs" / str(number)
    scratch = job / "scratch"
    scratch.mkdir(parents=True, mode=0o700)
    for file in wanted["transfer_input_files"].split(","):
        shutil.copy(file, scratch)
    lines = [f"mount -t tmpfs tmpfs {path}" for path in hidden(directory)]
    line = shlex.join([wanted["executable"], *wanted["arguments"].split()])
    lines.append(f"exec env -i PATH=/usr/bin:/bin TMPDIR={scratch} {line}")
    with Path(wanted["output"]).open("wb") as out, Path(wanted["error"]).open("wb") as err:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(lines)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=scratch,
            start_new_session=True,
        )
    (job / "pid").write_text(str(process.pid))
    shutil.copy(description, job / "described.new")
    (job / "described.new").rename(job / "described")
    print(f"Submitting job(s).\n1 job(s) submitted to cluster {number}.")


def hidden(directory: Path) -> list[str]:
    return json.loads((directory / "hidden.json").read_text())


def query(job: Path) -> None:
    status = RUNNING if runs(int((job / "pid").read_text())) else COMPLETED
    print(f"{job.name}.0 {status}")


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def remove(job: Path) -> None:
    pid = int((job / "pid").read_text())
    if runs(pid):
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.killpg(pid, signal.SIGKILL)


def main(directory: Path, command: str, arguments: Sequence[str]) -> None:
    if command == "condor_submit":
        submit(directory, Path(arguments[0]))
        return
    jobs = [directory / "jobs" / one.partition(".")[0] for one in arguments if one[0].isdigit()]
    for job in jobs:
        (query if command == "condor_q" else remove)(job)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
