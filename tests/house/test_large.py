"""Large arguments and results through the whole house, whatever dies meanwhile."""

import contextlib
import errno
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import BIN, DOMAIN, Owner, Relay, run, until
from mep_sdk import Executor
from mep_sdk.errors import MEPError, PayloadTooLarge

pytestmark = pytest.mark.root

MIB = 1 << 20
MOST = 60 * MIB
WAIT_S = 60.0


def turned(data: bytes) -> bytes:
    return data[::-1]


def pattern(size: int) -> bytes:
    """Not compressible by repeating one page, and quick to make."""
    return (os.urandom(4096) * (size // 4096 + 1))[:size]


@pytest.fixture(scope="module")
def owner(
    tmp_path_factory: pytest.TempPathFactory,
    session_accounts: Callable[..., pwd.struct_passwd],
) -> Iterator[Owner]:
    """A single-user endpoint at a relay that takes 60 MiB each way."""
    data = tmp_path_factory.mktemp("large") / "data"
    run(BIN / "mep-relay", "init", data, "--domain", DOMAIN)
    (data / "relay.toml").write_text(
        f"[limits]\npayload = {MOST}\nresult = {MOST}\n[blobs]\nkeep_free = 0\n"
    )
    relay = Relay(data)
    relay.start()
    owner = Owner(session_accounts("large"), relay)
    owner.mep("configure", "large", "--relay-url", relay.url)
    said = owner.mep("start", "large", "--detach", token=relay.token("carol"))
    owner.endpoint_id = said.split("registered ID: ")[1].split()[0]
    yield owner
    owner.mep("stop", "large")
    relay.stop()


def outgoing(owner: Owner) -> list[Path]:
    return [path for path in Path(owner.account.pw_dir).glob(".mep/*/outgoing/*") if path.is_file()]


def kept_files(owner: Owner) -> list[Path]:
    return [path for path in (owner.relay.data / "blobs").rglob("*") if path.is_file()]


def test_50_mb_each_way(owner: Owner) -> None:
    data = pattern(50 * 1_000_000)
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        future = ex.submit(turned, data)
        assert future.result(WAIT_S) == data[::-1]
        # The relay has it for whoever asks again; the site's own copy is no longer needed.
        client = owner.relay.client("carol")
        assert client.get_result(str(future.task_id)) == data[::-1]
        client.close()
    until(lambda: not outgoing(owner), "no large result is left at the site")


def test_an_array_lies_in_memory_that_can_be_written(owner: Owner) -> None:
    def doubled(values: Any) -> Any:
        for place in range(0, len(values), 4096):
            values[place] = values[place] * 2 % 256
        return values

    values = bytearray(pattern(8 * MIB))
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        got = ex.submit(doubled, values).result(WAIT_S)
    assert bytes(got) == bytes(doubled(values))
    got[0] = 7


def test_many_at_once(owner: Owner) -> None:
    calls = [pattern(3 * MIB + number) for number in range(6)]
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        futures = [ex.submit(turned, call) for call in calls]
        assert [future.result(WAIT_S) for future in futures] == [call[::-1] for call in calls]


def test_the_relay_is_killed_while_they_travel(owner: Owner) -> None:
    calls = [pattern(20 * MIB + number) for number in range(3)]
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        before = set(kept_files(owner))  # of which a sweep may remove some meanwhile
        futures = [ex.submit(turned, call) for call in calls]
        for more in (1, 3):  # in midst of the first upload, and of the first result perhaps
            until(
                lambda more=more: len(set(kept_files(owner)) - before) >= more,
                "files at the relay",
            )
            owner.relay.kill()
            owner.relay.start()
        assert [future.result(WAIT_S) for future in futures] == [call[::-1] for call in calls]


def turned_when_told(fifo: str, data: bytes) -> bytes:
    with open(fifo, "rb") as told:
        told.read()
    return data[::-1]


def opened_for_writing(fifo: Path) -> int | None:
    """A descriptor, once somebody reads."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO, error
        return None


def records_of(owner: Owner, task_id: str) -> int:
    """How often the user endpoint's journal names a task."""
    journals = Path(owner.account.pw_dir).glob(".mep/*/journal")
    return sum(path.read_bytes().count(task_id.encode()) for path in journals)


def test_the_user_endpoint_is_killed_with_a_large_result_in_hand(owner: Owner) -> None:
    data = pattern(20 * MIB)
    fifo = Path(owner.account.pw_dir) / "go"
    os.mkfifo(fifo)
    os.chown(fifo, owner.account.pw_uid, owner.account.pw_gid)
    assert owner.relay.process is not None
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        future = ex.submit(turned_when_told, str(fifo), data)
        told = until(lambda: opened_for_writing(fifo), "the task runs")
        # Nobody takes the result meanwhile: it is in the user endpoint's hand when that is killed.
        owner.relay.process.send_signal(signal.SIGSTOP)
        try:
            os.close(told)
            until(lambda: records_of(owner, str(future.task_id)) >= 2, "the result is spooled")
            assert outgoing(owner)
            processes = subprocess.run(
                ["pgrep", "-u", str(owner.account.pw_uid), "-f", "mep.endpoint"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            for process in processes:
                with contextlib.suppress(ProcessLookupError):  # one may end with another
                    os.kill(int(process), signal.SIGKILL)
        finally:
            owner.relay.process.send_signal(signal.SIGCONT)
        assert future.result(WAIT_S) == data[::-1]
        assert ex.submit(turned, data).result(WAIT_S) == data[::-1]


def test_above_the_maximum(owner: Owner) -> None:
    def large(size: int) -> bytes:
        return b"x" * size

    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        before = set(kept_files(owner))
        with pytest.raises(PayloadTooLarge, match=f"{MOST:,}"):
            ex.submit(len, bytes(MOST + 1)).result(WAIT_S)
        assert not set(kept_files(owner)) - before
        with pytest.raises(MEPError) as caught:
            ex.submit(large, MOST + 1).result(WAIT_S)
    assert caught.value.code == "RESULT_TOO_LARGE"
    kept = Path(str(caught.value).split("kept at the site in ")[1].split()[0].rstrip("];"))
    assert kept.stat().st_size > MOST
    assert kept.stat().st_uid == owner.account.pw_uid
    assert kept.stat().st_mode & 0o077 == 0
