"""``external_identity_mapping#1.0.0``: a program of the site says who somebody is.

It gets ``identity_mapping_input#1.0.0`` on standard input, the options ``-c``, ``-s`` (both with
the endpoint's id, where Globus Connect Server has connector and storage gateway) and ``-a``, and
writes ``identity_mapping_output#1.0.0`` on standard output: at most 64 KiB, within 5 s. It is
executed without a shell. Whatever goes wrong, nobody is mapped; what it said on standard error is
told to the administrator. Our own program for directories is run in the same way.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
from typing import Any, Final

from mep.callout.errors import ExternalError
from mep.callout.mapping import Answer, External, Identity

SECONDS: Final = 5.0
OUTPUT_BYTES: Final = 64 * 1024
WORDS: Final = 500
"""Characters of standard error that are told."""
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_DIRECTORY: Final = os.path.join(os.path.dirname(__file__), "directory/__main__.py")


def run(
    endpoint_id: str, external: External, identities: list[Identity], seconds: float = SECONDS
) -> list[Answer]:
    """What the program says, in its order.

    Raises:
        ExternalError: it cannot be run, fails, takes too long, or says what it may not.
    """
    command = external.command or [sys.executable, "-I", _DIRECTORY]
    argv = [*command, "-c", endpoint_id, "-s", endpoint_id, "-a"]
    question: dict[str, Any] = {"DATA_TYPE": "identity_mapping_input#1.0.0"}
    question["identities"] = identities
    if external.document is not None:
        question["mapping"] = external.document
    try:
        said = _communicate(argv, json.dumps(question).encode(), seconds)
        return _parse(said, {one["id"] for one in identities})
    except (OSError, ValueError, RecursionError, subprocess.SubprocessError) as error:
        name = external.command[0] if external.command else "ldap"
        raise ExternalError(f"{external.path}: {name}: {error}") from error


def _communicate(argv: list[str], question: bytes, seconds: float) -> bytes:
    asked, said, moaned = map(os.memfd_create, ("asked", "said", "moaned"))
    try:
        os.pwrite(asked, question, 0)
        with subprocess.Popen(
            argv,
            stdin=asked,
            stdout=said,
            stderr=moaned,
            cwd="/",
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            process_group=0,
            preexec_fn=_bound,
        ) as process:
            ended = _wait(process.pid, seconds)
        if not ended:
            raise ValueError(f"no answer within {seconds:g} s")
        if process.returncode != 0:
            raise ValueError(f"exit status {process.returncode}{_words(moaned)}")
        return os.pread(said, OUTPUT_BYTES + 1, 0)
    finally:
        for descriptor in (asked, said, moaned):
            os.close(descriptor)


def _words(descriptor: int) -> str:
    text = os.pread(descriptor, OUTPUT_BYTES, 0).decode("utf-8", "replace").strip()[-WORDS:]
    return "".join(one if one.isprintable() else " " for one in f": {text}") if text else ""


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


def _parse(data: bytes, ids: set[str]) -> list[Answer]:
    if not data.strip():
        return []
    match json.loads(data):
        case {"DATA_TYPE": "identity_mapping_output#1.0.0", "result": list(results)}:
            return [_answer(result, ids) for result in results]
    raise ValueError("its output is no identity_mapping_output#1.0.0")


def _answer(result: object, ids: set[str]) -> Answer:
    match result:
        case {"id": str(who), "output": str(output), "why": str(why)} if who in ids:
            return Answer(who, output, why)
        case {"id": str(identity_id), "output": str(output)} if identity_id in ids:
            return Answer(identity_id, output)
    raise ValueError(f"a result is no id of the question with an output: {result!r:.200}")
