"""``external_identity_mapping#1.0.0``: a program of the site says who somebody is.

It gets ``identity_mapping_input#1.0.0`` on standard input, the options ``-c``, ``-s`` (both with
the endpoint's id, where Globus Connect Server has connector and storage gateway) and ``-a``, and
writes ``identity_mapping_output#1.0.0`` on standard output: at most 64 KiB, within 5 s (the warden
bounds the sum of several). It is executed without a shell. Whatever goes wrong, nobody is mapped.
"""

import json
import os
import resource
import select
import signal
import subprocess
from typing import Final

from mep.callout.mapping import ExternalError, Identity

SECONDS: Final = 5.0
OUTPUT_BYTES: Final = 64 * 1024
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def run(
    endpoint_id: str, command: list[str], identities: list[Identity], seconds: float = SECONDS
) -> list[tuple[str, str]]:
    """What the program says: pairs of an identity's id and an account name, in its order.

    Raises:
        ExternalError: it cannot be run, fails, takes too long, or says what it may not.
    """
    argv = [*command, "-c", endpoint_id, "-s", endpoint_id, "-a"]
    question = {"DATA_TYPE": "identity_mapping_input#1.0.0", "identities": identities}
    try:
        said = _communicate(argv, json.dumps(question).encode(), seconds)
        return _parse(said, {one["id"] for one in identities})
    except (OSError, ValueError, RecursionError, subprocess.SubprocessError) as error:
        raise ExternalError(f"{command[0]}: {error}") from error


def _communicate(argv: list[str], question: bytes, seconds: float) -> bytes:
    asked, said = os.memfd_create("asked"), os.memfd_create("said")
    try:
        os.pwrite(asked, question, 0)
        with subprocess.Popen(
            argv,
            stdin=asked,
            stdout=said,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            process_group=0,
            preexec_fn=_bound,
        ) as process:
            ended = _wait(process.pid, seconds)
        if not ended:
            raise ValueError(f"no answer within {seconds:g} s")
        if process.returncode != 0:
            raise ValueError(f"exit status {process.returncode}")
        return os.pread(said, OUTPUT_BYTES + 1, 0)
    finally:
        os.close(asked)
        os.close(said)


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _wait(pid: int, seconds: float) -> bool:
    """Whether it ended in time; in any case nothing of its process group is left."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
        # It is not reaped yet, so the number is still its own group's.
        os.killpg(pid, signal.SIGKILL)


def _parse(data: bytes, ids: set[str]) -> list[tuple[str, str]]:
    if not data.strip():
        return []
    match json.loads(data):
        case {"DATA_TYPE": "identity_mapping_output#1.0.0", "result": list(results)}:
            return [_pair(result, ids) for result in results]
    raise ValueError("its output is no identity_mapping_output#1.0.0")


def _pair(result: object, ids: set[str]) -> tuple[str, str]:
    match result:
        case {"id": str(identity_id), "output": str(output)} if identity_id in ids:
            return identity_id, output
    raise ValueError(f"a result is no id of the question with an output: {result!r:.200}")
