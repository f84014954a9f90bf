"""A block's files, its start and its end.

``blocks/ID/pool.json`` tells the node pools of block ID all they need. It is the user's alone, for
it may hold a key; nothing of it is seen in the arguments or the environment of a process.
"""

from pathlib import Path
from typing import Any

import msgspec

from mep.endpoint.engines.plan import Plan
from mep.endpoint.private_file import write_private
from mep.endpoint.providers.base import Provider


class _Told(msgspec.Struct, frozen=True):
    connect: dict[str, Any]


def start_block(plan: Plan, provider: Provider, block_id: str) -> None:
    """Let its node pools in, write its files and ask the provider for it.

    Raises:
        OSError: they cannot be written, or it cannot be started.
    """
    file = _file(plan, block_id)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    connect = plan.transport.admit(block_id)
    write_private(file, {**plan.pool_settings, "connect": connect, "block_id": block_id})
    provider.start(block_id, [*plan.command, str(file)], plan.environment)


def readmit_block(plan: Plan, block_id: str) -> None:
    """Let the node pools of a block in that an earlier process has started.

    Raises:
        OSError: its file is gone.
        msgspec.MsgspecError, ValueError, KeyError: its file is damaged.
    """
    told = msgspec.json.decode(_file(plan, block_id).read_bytes(), type=_Told)
    plan.transport.admit_again(block_id, told.connect)


def end_block(plan: Plan, block_id: str) -> None:
    """It has ended: its key is worth nothing any more."""
    plan.transport.forget(block_id)
    _file(plan, block_id).unlink(missing_ok=True)


def _file(plan: Plan, block_id: str) -> Path:
    return Path(plan.directory, "blocks", block_id, "pool.json")
