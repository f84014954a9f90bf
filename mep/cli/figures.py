"""What users' endpoints say of themselves: tasks, workers, blocks and their batch jobs.

A user endpoint keeps its figures in its own directory, which belongs to the user. They are read by
a process of that account, so that nothing in a home directory can lead root anywhere, and taken as
data of a fixed shape and size.
"""

import os
import pwd
import subprocess
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

MOST_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 3.0
"""For a home directory that does not answer."""

Text = Annotated[str, Meta(max_length=8192)]
Count = Annotated[int, Meta(ge=0)]


class Block(msgspec.Struct, frozen=True):
    """One block; see :class:`mep.endpoint.providers.base.BlockState`."""

    id: Text
    state: Text
    since: float
    nodes: Count = 1
    job_id: Text = ""
    why: Text = ""
    reason: Text = ""
    pools: Count = 0
    workers: Count = 0
    ends_at: float | None = None


class Detail(msgspec.Struct, frozen=True):
    """What an engine says besides."""

    blocks: Annotated[tuple[Block, ...], Meta(max_length=1000)] = ()
    node_pools: Count = 0


class Figures(msgspec.Struct, frozen=True):
    """The figures of one user endpoint, as of `updated` (epoch seconds)."""

    updated: float
    state: Text = ""
    display_name: Text | None = None
    waiting: Count = 0
    running: Count = 0
    workers: Count = 0
    detail: Detail = Detail()


def figures(account: str, user_endpoint_id: str) -> Figures | None:
    """The figures of a user endpoint of this account; None: they cannot be had."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        return None
    path = os.path.join(entry.pw_dir, ".mep", user_endpoint_id, "status.json")
    drop: dict[str, Any] = {}
    if os.geteuid() == 0:
        drop = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    try:
        done = subprocess.run(
            ["head", "-c", str(MOST_BYTES), "--", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            timeout=PATIENCE_S,
            check=True,
            **drop,
        )
        return msgspec.json.decode(done.stdout, type=Figures)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        return None


def lines(said: Figures, now: float) -> list[str]:
    """The figures for people to read; to be printed through :func:`printable`."""
    running = f"{said.running} running, {said.waiting} waiting, {said.workers} workers"
    return [f"tasks: {running}", *(_line(block, now) for block in said.detail.blocks)]


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _line(block: Block, now: float) -> str:
    job = f", job {block.job_id}" if block.job_id else ""
    reason = f" ({block.reason})" if block.reason else ""
    text = f"block {block.id}{job}: {block.state}{reason} for {_span(now - block.since)}"
    if block.state == "ended":
        return f"{text}: it {block.why}" if block.why else text
    text += f", {block.nodes} nodes, {block.pools} pools, {block.workers} workers"
    if block.ends_at is not None:
        text += f", {max(0, int(block.ends_at - now)) // 60} min left"
    return text


def _span(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"
