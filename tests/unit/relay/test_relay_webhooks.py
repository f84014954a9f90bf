"""Webhooks: addresses, signatures, what waits and for how long."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from mep_cloud.delivery.state import Call
from mep_cloud.errors import StoreFails
from mep_cloud.hooks.addresses import AddressRefused, Networks, target
from mep_cloud.hooks.post import post
from mep_cloud.hooks.sender import LONGEST_RETRY_S, Sender, retry_s
from mep_cloud.hooks.signature import headers, key_of, secret_of
from mep_cloud.settings import Hooks
from mep_cloud.store import Store
from mep_cloud.store.records import News, User, Webhook
from mep_cloud.store.webhooks import INSERT_NEWS, Batch, Webhooks, rows_of
from sqlalchemy.exc import OperationalError

from mep.wire.tasks import Result

ALICE = User("alice-id", "alice@relay.local", "", "", "", False, 1.0)
HOOK = Webhook("11111111-1111-4111-8111-111111111111", ALICE.id, "https://r.example/x", None, 1.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://localhost/",
        "ftp://example.org/",
        "https://",
        "https:///path",
        "https://user:pw@example.org/",
        "https://user@example.org/",
        "https://example.org/#part",
        "https://example.org/a b",
        "https://example.org/\r\nX: y",
        "https://ex\u00e4mple.org/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://example.org/" + "a" * 2048,
        "//example.org/",
        "",
    ],
)
def test_urls_that_no_webhook_may_have(url: str) -> None:
    with pytest.raises(AddressRefused):
        target(url, http_to_loopback=True)


def test_parts_of_a_url() -> None:
    where = target("https://Example.org:8443/a?b=c", http_to_loopback=False)
    assert (where.host, where.port, where.path, where.tls) == ("example.org", 8443, "/a?b=c", True)
    assert where.authority == "example.org:8443"
    assert target("https://[2001:db8::1]", http_to_loopback=False).authority == "[2001:db8::1]"


def test_plain_http_is_for_this_machine_and_only_if_allowed() -> None:
    assert not target("http://127.0.0.1:8000/", http_to_loopback=True).tls
    with pytest.raises(AddressRefused, match="https"):
        target("http://127.0.0.1:8000/", http_to_loopback=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        Networks((), loopback=False).check([address])


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_taken(address: str) -> None:
    assert Networks((), loopback=False).check([address]) == address


def test_one_bad_address_of_a_name_spoils_it() -> None:
    with pytest.raises(AddressRefused):
        Networks((), loopback=False).check(["8.8.8.8", "10.0.0.1"])
    with pytest.raises(AddressRefused, match="no address"):
        Networks((), loopback=False).check([])


def test_the_operator_may_allow_networks() -> None:
    networks = Networks(("10.1.0.0/16", "fd00::/8"), loopback=False)
    assert networks.allows("10.1.2.3")
    assert networks.allows("::ffff:10.1.2.3")
    assert networks.allows("fd00::1")
    assert not networks.allows("10.2.0.1")
    assert not networks.allows("127.0.0.1")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    key = key_of(b"m" * 32, HOOK.id)
    assert key != key_of(b"m" * 32, HOOK.id.replace("1", "2"))
    made = headers(key, "msg", 1700000000.9, b'{"a":1}')
    secret = secret_of(key)
    expected = hmac.new(
        base64.b64decode(secret.removeprefix("whsec_")),
        b'msg.1700000000.{"a":1}',
        hashlib.sha256,
    ).digest()
    assert made["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert made["webhook-timestamp"] == "1700000000"


def test_retries_come_ever_more_rarely() -> None:
    waits = [retry_s(attempts) for attempts in range(30)]
    assert waits == sorted(waits)
    assert waits[0] == 2.0
    assert waits[-1] == LONGEST_RETRY_S


def news(count: int, created: float = 10.0, webhook_id: str = HOOK.id) -> list[News]:
    return [News(webhook_id, f"t{n}", "g", "success", 9.0, created) for n in range(count)]


async def put(store: Store, items: list[News]) -> None:
    await store._database.write(lambda c: c.execute(INSERT_NEWS, rows_of(items)))


async def claimed(store: Store, now: float) -> Batch:
    batch = await store.webhooks.claim(HOOK.id, now, now + 40)
    assert isinstance(batch, Batch)
    return batch


async def opened(path: Path) -> Store:
    store = Store(path / "relay.sqlite3")
    store.create()
    await store.__aenter__()
    await store.users.add(ALICE)
    assert await store.webhooks.add(HOOK, 1)
    return store


def test_news_are_claimed_by_one_and_sent_again_as_they_were(tmp_path: Path) -> None:
    async def flow() -> None:
        store = await opened(tmp_path)
        await put(store, news(3))
        first = await claimed(store, 100.0)
        assert [each.task_id for each in first.news] == ["t0", "t1", "t2"]
        assert await store.webhooks.claim(HOOK.id, 101.0, 141.0) == 140.0
        await put(store, news(1))
        again = await claimed(store, 140.0)
        assert (again.through, again.news) == (first.through, first.news)
        await store.webhooks.not_taken(again, "no", 150.0, give_up_before=0.0)
        assert await store.webhooks.claim(HOOK.id, 149.0, 200.0) == 150.0
        third = await claimed(store, 150.0)
        assert third.through == first.through
        assert third.webhook.attempts == 1
        await store.webhooks.taken(third)
        last = await claimed(store, 151.0)
        assert len(last.news) == 1
        await store.webhooks.taken(last)
        assert await store.webhooks.claim(HOOK.id, 152.0, 200.0) is None
        (told,) = await store.webhooks.of(ALICE.id)
        assert (told.delivered, told.attempts, told.last_outcome) == (4, 0, "ok")
        await store.__aexit__()

    asyncio.run(flow())


def test_old_news_are_given_up(tmp_path: Path) -> None:
    async def flow() -> None:
        store = await opened(tmp_path)
        await put(store, news(2, created=10.0))
        batch = await claimed(store, 100.0)
        await store.webhooks.not_taken(batch, "no", 105.0, give_up_before=50.0)
        assert await store.webhooks.claim(HOOK.id, 106.0, 140.0) is None
        (told,) = await store.webhooks.of(ALICE.id)
        assert (told.dropped, told.delivered) == (2, 0)
        await store.__aexit__()

    asyncio.run(flow())


def test_only_ones_own_webhooks_and_so_many_of_them(tmp_path: Path) -> None:
    async def flow() -> None:
        store = await opened(tmp_path)
        assert not await store.webhooks.add(Webhook("other", ALICE.id, "https://x", None, 1.0), 1)
        assert not await store.webhooks.remove(HOOK.id, "bob-id")
        await put(store, news(1))
        await put(store, news(1, webhook_id="gone"))
        await store.webhooks.sweep()
        assert isinstance(await store.webhooks.claim(HOOK.id, 100.0, 140.0), Batch)
        assert await store.webhooks.remove(HOOK.id, ALICE.id)
        assert await store.webhooks.claim(HOOK.id, 200.0, 240.0) is None
        await store.__aexit__()

    asyncio.run(flow())


class ChangedMeanwhile(Webhooks):
    """Something happens after the webhooks were read and before it is known."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def all(self) -> list[Webhook]:
        found = await super().all()
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return found


def test_a_webhook_that_comes_while_all_are_read_is_told_of_tasks(tmp_path: Path) -> None:
    late = Webhook("22222222-2222-4222-8222-222222222222", ALICE.id, HOOK.url, None, 2.0)
    ending = Call("t", "f", 1, "g", b"", 0, owner=ALICE.id), Result("t", "success", b"")

    async def flow() -> None:
        store = await opened(tmp_path)
        webhooks = ChangedMeanwhile(store._database)
        sender = Sender(webhooks, Hooks(), b"m" * 32, lambda: 10.0)

        async def come() -> None:
            assert await store.webhooks.add(late, 2)
            sender.added(late)

        webhooks.meanwhile = come
        await sender.start()
        assert {each.webhook_id for each in sender.news([ending], 10.0)} == {HOOK.id, late.id}
        await sender.close()
        await store.__aexit__()

    asyncio.run(flow())


class MuteReceiver:
    """Reads one request by TLS, says `answer`, and nothing more: not even that it closes, too."""

    def __init__(self, certificate: tuple[Path, Path], answer: bytes) -> None:
        key, chain = certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        self.over = threading.Event()

        def serve() -> None:
            with listener, context.wrap_socket(listener.accept()[0], server_side=True) as peer:
                peer.recv(4096)
                peer.sendall(answer)
                self.over.wait()

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def close(self) -> None:
        self.over.set()
        self._thread.join()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_a_receiver_that_closes_nothing_is_not_waited_for(
    certificate: tuple[Path, Path], answer: bytes
) -> None:
    """It would hold one of the few requests at a time, and the end of the relay."""
    receiver = MuteReceiver(certificate, answer)
    context = ssl.create_default_context(cafile=str(certificate[1]))
    where = target(receiver.url, http_to_loopback=False)

    async def flow() -> None:
        began = time.monotonic()
        async with asyncio.timeout(1):
            await post(where, Networks((), loopback=True), context, {}, b"{}")
        assert time.monotonic() - began < 5

    async def bounded() -> None:
        began = time.monotonic()
        with contextlib.nullcontext() if answer else pytest.raises(TimeoutError):
            await flow()
        assert time.monotonic() - began < 5

    try:
        asyncio.run(bounded())
    finally:
        receiver.close()


class BrokenOnce(Webhooks):
    """The second time that all are read, the disk fails."""

    reads = 0

    async def all(self) -> list[Webhook]:
        self.reads += 1
        if self.reads == 2:
            raise OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error"))
        return await super().all()


class FullOnce(Webhooks):
    """The first claim finds the disk full."""

    claims = 0

    async def claim(self, webhook_id: str, now: float, until: float) -> Batch | float | None:
        self.claims += 1
        if self.claims == 1:
            raise StoreFails("The database cannot be used: disk is full")
        return await super().claim(webhook_id, now, until)


def test_news_wait_where_the_database_fails_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mep_cloud.hooks.sender")

    async def flow() -> None:
        store = await opened(tmp_path)
        webhooks = FullOnce(store._database)
        sender = Sender(webhooks, Hooks(), b"m" * 32, lambda: 10.0)
        await sender.start()
        async with asyncio.timeout(10):
            while webhooks.claims < 2:
                sender.changed()
                await asyncio.sleep(0)
        await sender.close()
        await store.__aexit__()

    asyncio.run(flow())
    assert [each.message for each in caplog.records] == [
        f"webhook {HOOK.id} waits: The database cannot be used: disk is full"
    ]


def test_webhooks_are_read_again_after_a_failure(tmp_path: Path) -> None:
    late = Webhook("22222222-2222-4222-8222-222222222222", ALICE.id, HOOK.url, None, 2.0)
    ending = Call("t", "f", 1, "g", b"", 0, owner=ALICE.id), Result("t", "success", b"")

    async def flow() -> None:
        store = await opened(tmp_path)
        webhooks = BrokenOnce(store._database)
        sender = Sender(webhooks, Hooks(), b"m" * 32, lambda: 10.0)
        await sender.start()
        assert await store.webhooks.add(late, 2)
        async with asyncio.timeout(10):
            while len(sender.news([ending], 10.0)) < 2:
                sender.changed()
                await asyncio.sleep(0)
        assert webhooks.reads > 2
        await sender.close()
        await store.__aexit__()

    asyncio.run(flow())
