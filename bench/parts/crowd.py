"""Simulated node pools: connected, each with one task that it never ends, silent but for beats.

Usage: python bench/parts/crowd.py DIRECTORY COUNT, where DIRECTORY holds ``interchange.sock``.
Prints a line when all have said hello, and ends with its standard input.
"""

import os
import select
import sys

import zmq

from mep.wire.frames import header, hello


def main(directory: str, count: int) -> None:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 16)
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    pools = []
    for number in range(count):
        name = f"0.crowd-{number}"
        pool = context.socket(zmq.DEALER)
        pool.setsockopt(zmq.IDENTITY, name.encode())
        pool.setsockopt(zmq.LINGER, 0)
        pool.connect(f"ipc:///proc/self/fd/{folder}/interchange.sock")
        pool.send(hello(name, "0", "crowd", os.getpid(), "3", 1, 1))
        pools.append(pool)
    print("connected", flush=True)
    while not select.select([sys.stdin], [], [], 5)[0]:
        for pool in pools:
            pool.send(header("beat", 0.0))
    context.destroy(linger=0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
