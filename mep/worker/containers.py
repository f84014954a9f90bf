"""The command that starts a container with a node's workers in it. Pure.

Types and placeholders as in Globus Compute's engine, whose templates work unchanged: the
administrator's options stand before the image, as words of a shell that is not there.
"""

import shlex
from string import Template
from typing import List, Mapping, NamedTuple, Sequence

OCI = ("docker", "podman", "podman-hpc")
"""They share a command line."""
APPTAINER = ("apptainer", "singularity")
"""So do they."""
CUSTOM = "custom"
TYPES = (*OCI, *APPTAINER, CUSTOM)

RUNDIR = "{EXECUTOR_RUNDIR}"
LAUNCH = "{EXECUTOR_LAUNCH_CMD}"


class ContainerError(ValueError):
    """No command can be made of these settings; the message is a sentence."""


class Container(NamedTuple):
    """``container_type``, ``container_uri`` and ``container_cmd_options`` of an engine."""

    type: str
    uri: str
    options: str


class Host(NamedTuple):
    """What a container must know about where it runs."""

    rundir: str
    """The user endpoint's directory: the container sees it under the same path."""
    working_dir: str
    """The same."""
    uid: int
    gids: Sequence[int]
    """The main group first."""
    variables: Mapping[str, str]
    """Of the environment, for ``$NAME`` in options."""


def container_command(container: Container, launch: Sequence[str], host: Host) -> List[str]:
    """The command that runs `launch` in a container.

    Raises:
        ContainerError: a directory or an option that cannot be used.
    """
    if container.type == CUSTOM:
        return _custom(container, launch, host)
    options = [_filled(word, host) for word in words(container.options)]
    if container.type in APPTAINER:
        binds = [word for path in _seen(host) for word in ("--bind", _bind(path))]
        return [container.type, "run", *binds, *options, container.uri, *launch]
    volumes = [word for path in _seen(host) for word in ("-v", _bind(path))]
    whose = [] if _choose_account(container.type, options) else _account(container.type, host)
    return [
        *(container.type, "run", "--rm", "--security-opt", "label=disable"),
        *(*whose, *volumes, *options, container.uri, *launch),
    ]


def words(options: str) -> List[str]:
    """The words of options, as a shell splits them.

    Raises:
        ContainerError: a quote that is not closed.
    """
    try:
        return shlex.split(options)
    except ValueError as error:
        raise ContainerError("container_cmd_options cannot be split: %s" % error) from error


def _custom(container: Container, launch: Sequence[str], host: Host) -> List[str]:
    """The launch command stands for as many words where it is a word, and quoted within one."""
    command: List[str] = []
    for word in words(container.options):
        if word == LAUNCH:
            command += launch
        else:
            pieces = (_filled(piece, host) for piece in word.split(LAUNCH))
            command.append(" ".join(map(shlex.quote, launch)).join(pieces))
    return command


def _filled(word: str, host: Host) -> str:
    """With the run directory, and with variables as a shell would put them in.

    Raises:
        ContainerError: a variable that is not set.
    """
    text = word.replace(RUNDIR, host.rundir.replace("$", "$$"))
    if "$" not in text:
        return text
    try:
        return Template(text).substitute(host.variables)
    except (KeyError, ValueError) as error:
        what = "names $%s, which is not set on the node" % error.args[0]
        if isinstance(error, ValueError):
            what = "has a $ that begins no name (write $$ for a plain one)"
        raise ContainerError("container_cmd_options %s: %s" % (what, word)) from error


def _seen(host: Host) -> List[str]:
    inside = (host.working_dir + "/").startswith(host.rundir + "/")
    return [host.rundir] if inside else [host.rundir, host.working_dir]


def _bind(path: str) -> str:
    if ":" in path or "," in path:
        raise ContainerError(
            "The directory %s cannot be shown to a container: its path has a colon or a comma"
            % path
        )
    return "%s:%s" % (path, path)


def _choose_account(kind: str, options: Sequence[str]) -> bool:
    names = ("--user",) if kind == "docker" else ("--user", "--userns")
    return any(word.split("=")[0] in names or word.startswith("-u") for word in options)


def _account(kind: str, host: Host) -> List[str]:
    """Whoever the image would run as, files in the working directory shall be the user's.

    Without root's help (podman), user 0 of a container is the user who started it; docker's daemon
    is root's and must be told.
    """
    if kind != "docker":
        return ["--user", "0:0"]
    groups = [word for gid in host.gids[1:] for word in ("--group-add", str(gid))]
    return ["--user", "%d:%d" % (host.uid, host.gids[0]), *groups]
