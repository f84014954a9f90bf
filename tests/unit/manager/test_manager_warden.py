"""The connection to the warden, against one that waits for nobody."""

import asyncio
import multiprocessing
import socket
from pathlib import Path

from mep.manager.packets import Refused, Reply, Running, Start, pack_request
from mep.manager.warden import WardenConnection
from mep.root import messages as root

BURST = 3000
"""Ten times what the kernel keeps of packets that nobody has read."""
REQUEST = pack_request(Start(b"{}", b"s" * 32, b"{}", b"{}"))
REFUSED = root.pack_reply(root.REFUSED, "u" * 36, "0" * 64, "START_LIMIT", "00000000")


def impatient(listener: socket.socket) -> None:
    """Refuses whatever comes, and hangs up when a refusal cannot be sent at once."""
    peer, _ = listener.accept()
    with peer:
        peer.send(root.pack_reply(root.RUNNING, "boot", []))
        try:
            while peer.recv(root.MAX_PACKET):
                peer.send(REFUSED, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return


async def burst(path: Path) -> tuple[list[Reply], int]:
    """What is heard when many starts are sent in a row, and how often the connection was lost."""
    up, all_heard = asyncio.Event(), asyncio.Event()
    heard: list[Reply] = []
    lost = 0

    def connected(running: Running, pid: int) -> None:
        up.set()

    def received(reply: Reply) -> None:
        heard.append(reply)
        if len(heard) == BURST:
            all_heard.set()

    def down() -> None:
        nonlocal lost
        lost += 1
        all_heard.set()

    warden = WardenConnection(path, up=connected, received=received, down=down)
    async with asyncio.timeout(60):
        running = asyncio.create_task(warden.run())
        await up.wait()
        for _ in range(BURST):
            assert await warden.send(REQUEST), f"lost after {len(heard)} answers"
        await all_heard.wait()
    before = lost
    running.cancel()
    await asyncio.wait([running])
    return heard, before


def test_a_burst_of_starts_that_are_all_refused_loses_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "warden.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        other = multiprocessing.get_context("fork").Process(target=impatient, args=[listener])
        other.start()
        heard, lost = asyncio.run(burst(path))
        other.join()
    assert lost == 0
    assert len(heard) == BURST
    assert all(isinstance(one, Refused) for one in heard)
