"""Simulated node pools: connected, each with one task that it never ends, silent but for beats.

Usage: python bench/parts/crowd.py DIRECTORY COUNT, where DIRECTORY holds ``interchange.sock``.
Prints a line when all have said hello, and ends with its standard input. Each beats every five
seconds, one after the other: node pools that came at different times do not beat all at once.
"""

import itertools
import os
import select
import sys

from mep.wire.frames import header, hello
from mep.worker.beside import Beside

PERIOD_S = 5
"""Of heartbeats."""


def main(directory: str, count: int) -> None:
    pools = []
    for number in range(count):
        node = f"crowd-{number}"
        name = f"0.{node}.{os.getpid()}"
        pool = Beside(name, directory)
        pool.send([hello(name, "0", node, os.getpid(), "3", 1, 1, [])])
        pools.append(pool)
    print("connected", flush=True)
    for pool in itertools.cycle(pools):
        if select.select([sys.stdin], [], [], PERIOD_S / count)[0]:
            break
        pool.send([header("beat", 0.0)])
    for pool in pools:
        pool.close(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
