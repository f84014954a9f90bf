"""Node pools over TCP: who gets in, what is lost when connections break, what garbage does."""

import contextlib
import json
import os
import pwd
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from engine_harness import Harness, engine, until
from proxies import CuttingProxy

from mep.endpoint.engines.base import EngineError
from mep.endpoint.interchange import addresses, slow_curve
from mep.endpoint.interchange.lines import Lines
from mep.endpoint.interchange.network import FILE, Network, Reach
from mep.wire import frames, line
from mep.wire.line import Line
from mep.worker.connect import Across
from mep.worker.upstream import Unreachable, connected

HERE = Reach(["127.0.0.1"], "127.0.0.1", [], 20)
LIMIT_S = 20.0
PARTITION = Path(__file__).with_name("partition.py")


class Site:
    """The interchange's end of the network, without the rest of it."""

    def __init__(self, directory: Path, encrypted: bool = True, reach: Reach = HERE) -> None:
        self.network = Network(str(directory), reach, encrypted)
        self.network.prepare()
        self.heard: list[tuple[str, list[bytes]]] = []
        self.lines: Lines | None = None

    def connect(self, block_id: str = "0") -> dict[str, Any]:
        return self.network.admit(block_id)

    def open(self) -> Lines:
        self.lines = self.network.open()
        return self.lines

    def turn(self) -> None:
        assert self.lines is not None
        if not self.lines.pending():
            select.select(self.lines.descriptors, [], [], 0.02)
        self.heard += [
            (name, list(map(bytes, m)))
            for name, m in self.lines.messages(set(self.lines.descriptors))
        ]

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}"
            self.turn()

    def noise(self) -> int:
        assert self.lines is not None
        return self.lines.noise.count

    def close(self) -> None:
        if self.lines is not None:
            self.lines.close()
        self.network.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.open()
    yield made
    made.close()


@contextlib.contextmanager
def dealer(**options: Any) -> Iterator["zmq.Socket[bytes]"]:
    context = zmq.Context()
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    for name, value in options.items():
        setattr(sock, name, value)
    yield sock
    sock.close()
    context.term()


def keys_of(connect: dict[str, Any]) -> dict[str, bytes]:
    return {
        "curve_serverkey": connect["server_key"].encode(),
        "curve_publickey": connect["public_key"].encode(),
        "curve_secretkey": connect["secret_key"].encode(),
    }


def joined(site: Site, connect: dict[str, Any], name: str = "0.n.1") -> Across:
    """A node pool's end that has said hello; the site turns meanwhile."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(connected(name, connect)))
    thread.start()
    site.until(lambda: made, "a handshake")
    thread.join()
    (pool,) = made
    assert isinstance(pool, Across)
    pool.send([frames.header("hello")])
    begun = len(site.heard)

    def hello() -> bool:
        pool.receive()
        return len(site.heard) > begun

    site.until(hello, "hello")
    return pool


# --- who gets in --------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_pool_with_its_block_s_credentials_is_heard(tmp_path: Path, encrypted: bool) -> None:
    site = Site(tmp_path, encrypted)
    connect = site.connect()
    site.open()
    pool = joined(site, connect)
    assert site.heard == [("0.n.1", [b'["hello"]'])]
    pool.close(0)
    site.close()


def refused(site: Site, **options: Any) -> None:
    """Whoever connects like this is turned away, and what it sends is not heard."""
    before = site.noise()
    with dealer(**options) as sock:
        sock.connect(f"tcp://127.0.0.1:{site.connect('9')['port']}")
        sock.send(line.PREFIX.pack(line.RESUME, 0, 0) + b"0.n.1")
        sock.send_multipart(Line().data([frames.header("hello")]))
        site.until(lambda: site.noise() > before, "a refusal")
    assert site.heard == []


def test_who_knows_the_server_key_alone_is_refused(site: Site) -> None:
    public, secret = zmq.curve_keypair()
    keys = {**keys_of(site.connect()), "curve_publickey": public, "curve_secretkey": secret}
    refused(site, **keys)


def test_who_does_not_encrypt_is_refused(site: Site) -> None:
    site.connect()
    refused(site)


def test_a_password_is_refused_where_keys_are_asked_for(site: Site) -> None:
    refused(site, plain_username=b"0", plain_password=b"x")


def test_who_knows_no_password_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, encrypted=False)
    site.open()
    refused(site, plain_username=b"0", plain_password=b"x")
    refused(site)
    site.close()


def test_the_key_of_an_ended_block_opens_nothing_any_more(site: Site) -> None:
    connect = site.connect()
    site.network.forget("0")
    refused(site, **keys_of(connect))


def test_a_pool_may_only_be_of_the_block_that_its_key_was_made_for(site: Site) -> None:
    keys = keys_of(site.connect("1"))
    with dealer(**keys) as sock:
        sock.connect(f"tcp://127.0.0.1:{site.connect('2')['port']}")
        sock.send(line.PREFIX.pack(line.RESUME, 0, 0) + b"2.n.1")
        sock.send_multipart(Line().data([frames.header("hello")]))
        site.until(lambda: site.noise() >= 2, "two refusals")
    assert site.heard == []


def test_a_pool_does_not_take_an_impostor_for_its_interchange(site: Site) -> None:
    connect = {**site.connect(), "probe_timeout": 0.5}
    connect["server_key"] = zmq.curve_keypair()[0].decode()
    with pytest.raises(Unreachable, match="something answers that is not this endpoint"):
        connected("0.n.1", connect)


def test_a_pool_tries_all_addresses_and_names_those_that_failed(site: Site) -> None:
    connect = {**site.connect(), "addresses": ["127.0.0.9", "no.such.host.invalid", "127.0.0.1"]}
    joined(site, connect).close(0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    connect = {**connect, "port": port, "probe_timeout": 0.2}
    with pytest.raises(Unreachable) as failed:
        connected("0.n.1", connect)
    assert f"127.0.0.9:{port} (Connection refused)" in str(failed.value)
    assert "no.such.host.invalid (" in str(failed.value)
    assert "worker_port_range" in str(failed.value)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_every_address_of_the_machine_is_listened_at(tmp_path: Path, address: str) -> None:
    if address == "::1" and "::1" not in addresses.interfaces()["lo"]:
        pytest.skip("this machine has no IPv6")
    site = Site(tmp_path, reach=Reach([address], "", [], 20))
    connect = site.connect()
    site.open()
    joined(site, connect).close(0)
    site.close()


def test_a_pool_finds_its_endpoint_by_name(site: Site) -> None:
    joined(site, {**site.connect(), "addresses": ["localhost"]}).close(0)


def test_a_pool_whose_key_is_refused_says_so(site: Site) -> None:
    connect = {**site.connect(), "probe_timeout": 1.5}
    site.network.forget("0")
    failures: list[str] = []

    def fail() -> None:
        with contextlib.suppress(Unreachable):
            connected("0.n.1", connect)
            return
        failures.append("refused")

    thread = threading.Thread(target=fail)
    thread.start()
    site.until(lambda: failures, "the end of the probe")
    thread.join()


# --- what a restart finds again -----------------------------------------------------------------


def test_keys_and_port_are_kept_and_private(tmp_path: Path) -> None:
    first = Site(tmp_path)
    connect = first.connect("0")
    first.close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    again = Site(tmp_path)
    told = again.connect("1")
    for name in ("port", "server_key"):
        assert told[name] == connect[name]
    assert told["public_key"] != connect["public_key"]
    again.close()


def test_a_pool_of_an_earlier_process_is_asked_who_it_is(tmp_path: Path) -> None:
    first = Site(tmp_path)
    connect = first.connect("0")
    first.open()
    pool = joined(first, connect)
    orders: list[Any] = []

    def asked() -> list[Any]:
        order = pool.receive()
        if order:
            orders.append(order)
        return orders

    assert first.lines is not None
    first.lines.send("0.n.1", [frames.header("drain")])
    first.until(asked, "an order")
    first.close()
    orders.clear()
    again = Site(tmp_path)
    again.network.admit_again("0", connect)
    again.open()
    again.until(asked, "who")
    assert orders == [[b'["who"]']]
    pool.send([frames.header("hello", "again")])

    def heard() -> bool:
        pool.receive()
        return bool(again.heard)

    again.until(heard, "the second hello")
    assert again.heard == [("0.n.1", [b'["hello","again"]'])]
    pool.close(0)
    again.close()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"port": 1}', b'{"port": 1, "public_key": '
                                     b'"x", "secret_key": "y"}'])  # fmt: skip
def test_a_broken_file_of_keys_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    site = Site(tmp_path)
    assert len(json.loads((tmp_path / FILE).read_bytes())["secret_key"]) == 40
    site.close()


def test_a_port_that_is_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    first = Site(tmp_path)
    port = first.connect()["port"]
    first.close()
    with socket.create_server(("127.0.0.1", port)):
        again = Site(tmp_path)
        assert again.connect()["port"] != port
        again.close()


def test_a_port_that_the_administrator_chose_is_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        network = Network(str(tmp_path), Reach(["127.0.0.1"], "127.0.0.1", [port], 1), True)
        with pytest.raises(EngineError, match=f"port {port} is taken"):
            network.prepare()


# --- garbage ------------------------------------------------------------------------------------


GARBAGE = [
    [b""],
    [b"\xff" * 100],
    [line.PREFIX.pack(line.DATA, 9, 0) + b"[]"],
    [line.PREFIX.pack(line.ACK, 0, 2**63)],
    [line.PREFIX.pack(line.RESUME, 0, 0) + b"7.n.1"],
    [line.PREFIX.pack(line.RESUME, 0, 0) + b"\xff" * 4096],
    [b"", b"", b""],
]
MANGLED = [
    [line.PREFIX.pack(line.DATA, 1, 0) + b"[]"],
    [line.PREFIX.pack(line.DATA, 2, 0) + b"\0\0\0\1" + bytes(8), b"more"],
]


def test_garbage_of_one_pool_does_not_disturb_another(site: Site) -> None:
    pool = joined(site, site.connect("0"))
    with dealer(**keys_of(site.connect("1"))) as vandal:
        vandal.connect(f"tcp://127.0.0.1:{site.connect('2')['port']}")
        for message in GARBAGE:
            vandal.send_multipart(message)
        vandal.send(line.PREFIX.pack(line.RESUME, 0, 0) + b"1.n.1")
        for message in (*GARBAGE[:4], *MANGLED):
            vandal.send_multipart(message)
        site.until(lambda: site.noise() >= len(GARBAGE) + 6, "all of the garbage")
    pool.send([frames.header("beat", 1.0)])
    site.until(lambda: len(site.heard) > 1, "the other pool")
    assert site.heard[1:] == [("0.n.1", [b'["beat",1.0]'])]
    pool.close(0)


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False),  # libzmq takes it for a version of its own past
        (bytes(200), False),
        (b"\xff" + bytes(8) + b"\x7f\x03" + b"x" * 300, True),
    ],
)
def test_bytes_that_are_no_handshake_are_cut_off(site: Site, data: bytes, counted: bool) -> None:
    pool = joined(site, site.connect("0"))
    with socket.create_connection(("127.0.0.1", site.connect()["port"]), LIMIT_S) as sock:
        sock.sendall(data)
        sock.setblocking(False)

        def cut_off() -> bool:
            try:
                return sock.recv(4096) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        site.until(cut_off, "the end of the connection")
    if counted:
        site.until(lambda: site.noise() >= 1, "a failed handshake")
    pool.send([frames.header("beat", 1.0)])
    site.until(lambda: len(site.heard) > 1, "the pool")
    pool.close(0)


# --- a whole engine -----------------------------------------------------------------------------


def test_no_key_is_seen_in_arguments_environment_or_by_others(tmp_path: Path) -> None:
    with engine(tmp_path, transport="tcp", max_workers_per_node=1) as one:
        assert one.value(lambda: 7) == 7
        told = json.loads((tmp_path / "blocks" / "0" / "pool.json").read_text())["connect"]
        kept = json.loads((tmp_path / FILE).read_text())
        secrets = [told["secret_key"], kept["secret_key"]]
        assert len(set(secrets)) == 2
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    for name in ("cmdline", "environ"):
                        shown = (process / name).read_bytes()
                        assert not any(secret.encode() in shown for secret in secrets)
        for file in (tmp_path / FILE, tmp_path / "blocks" / "0" / "pool.json"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "blocks" / "0" / "pool.json").exists()


def test_a_port_that_is_taken_refuses_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} is taken"):
            Harness(tmp_path, transport="tcp", worker_port=port)


def test_the_user_learns_which_addresses_a_pool_tried(tmp_path: Path) -> None:
    settings = {"address": "127.0.0.1", "address_probe_timeout": 0.3}
    with astray(tmp_path, 1, **settings) as one:
        result = one.call(lambda: 1)
    assert result.failure is not None
    assert "tried 127.0.0.1:1 (Connection refused)" in result.failure.message


@contextlib.contextmanager
def astray(directory: Path, port: int, **settings: Any) -> Iterator[Harness]:
    """An engine whose node pools connect to another port than its own."""
    init = f"""sed -i 's/"port": [0-9]*/"port": {port}/' "${{@: -1}}\""""
    provider = {"worker_init": init}
    with engine(directory, transport="tcp", provider=provider, **settings) as one:
        yield one


@contextlib.contextmanager
def proxied(directory: Path, **settings: Any) -> Iterator[tuple[Harness, CuttingProxy]]:
    """An engine, and a proxy between it and its node pools."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        CuttingProxy(port) as proxy,
        astray(directory, proxy.port, worker_port=port, **settings) as one,
    ):
        yield one, proxy


def note(path: str, text: str) -> str:
    """Counts its executions."""
    with open(path, "a") as file:
        file.write(text + "\n")
    return text


def test_nothing_is_lost_or_run_twice_while_connections_are_cut(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    count = 600
    with proxied(tmp_path, max_workers_per_node=2, prefetch_capacity=20) as (one, proxy):
        assert one.value(lambda: 1) == 1
        big = "x" * 300_000
        ids = one.submit_many(note, [(str(ran), str(n)) for n in range(count)])
        ids += one.submit_many(len, [(big + str(n),) for n in range(60)])
        cuts = 0
        while len({r.task_id for r in one.results}) < len(ids) + 1:
            cuts += proxy.cut()
            threading.Event().wait(0.05)
        results = [r for r in one.results if r.task_id in set(ids)]
    assert cuts > 3
    assert [r.outcome for r in results] == ["success"] * len(ids)
    assert sorted(r.task_id for r in results) == sorted(ids)
    assert sorted(ran.read_text().split(), key=int) == [str(n) for n in range(count)]


def test_a_connection_that_is_away_for_several_heartbeats_loses_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    settings = {"heartbeat_period": 0.3, "heartbeat_threshold": 15, "max_workers_per_node": 2}

    def slow(path: str, text: str) -> str:
        import time

        time.sleep(0.05)
        with open(path, "a") as file:
            file.write(text + "\n")
        return text

    with proxied(tmp_path, **settings) as (one, proxy):
        ids = one.submit_many(slow, [(str(ran), str(n)) for n in range(40)])
        one.wait(lambda: len(one.results) >= 5, "the first results")
        proxy.block()
        seen = len(one.results)
        threading.Event().wait(1.5)
        assert len(one.results) <= seen + 15  # of 30 and more: what was on its way already
        ids += one.submit_many(slow, [(str(ran), str(n)) for n in range(40, 50)])
        proxy.unblock()
        one.wait(lambda: len(one.results) == len(ids), "all results")
        assert {r.outcome for r in one.results} == {"success"}
        assert proxy.accepted >= 2
    assert sorted(ran.read_text().split(), key=int) == [str(n) for n in range(50)]


@pytest.mark.root
def test_a_network_that_is_away_for_several_heartbeats_loses_nothing(site_root: Path) -> None:
    """Nobody is told that it is away: no connection is reset, packets vanish."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(PARTITION), str(site_root)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    names = [name for name, _ in told["outcomes"]]
    assert len(names) == len(set(names)) == 60
    assert {outcome for _, outcome in told["outcomes"]} == {"success"}
    assert told["executions"] == {str(number): 1 for number in range(60)}
    assert told["meanwhile"] <= 15  # of 50 and more: what was on its way already


# --- other people of this machine ---------------------------------------------------------------


STRANGER = """
import sys, zmq, os
port, server_key, sock = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
for path in sys.argv[4:]:
    try:
        open(path).close()
    except PermissionError:
        print("private")
context = zmq.Context()
def try_(endpoint, **options):
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.RCVTIMEO, 1500)
    for name, value in options.items():
        setattr(dealer, name, value)
    try:
        dealer.connect(endpoint)
        dealer.send(b'\\x02' + bytes(16) + b'0.n.1')
        dealer.recv()
        print("answered")
    except zmq.Again:
        print("silence")
    dealer.close()
public, secret = zmq.curve_keypair()
try_("tcp://127.0.0.1:%d" % port)
try_("tcp://127.0.0.1:%d" % port, curve_serverkey=server_key, curve_publickey=public,
     curve_secretkey=secret)
try_("ipc://" + sock)
context.term()
"""


@pytest.mark.root
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_another_user_of_this_machine_gets_nowhere(
    site_root: Path, session_accounts: Callable[[str], pwd.struct_passwd], transport: str
) -> None:
    account = session_accounts("curve")
    home = site_root / "u"
    home.mkdir(mode=0o700)
    with engine(home, transport=transport, max_workers_per_node=1) as one:
        assert one.value(lambda: 1) == 1
        files = [str(home / "blocks" / "0" / "pool.json")]
        port, key = 1, "x" * 40
        if transport == "tcp":
            kept = json.loads((home / FILE).read_text())
            port, key = kept["port"], kept["public_key"]
            files.append(str(home / FILE))
        before = one.engine.status().detail["noise"]
        said = subprocess.run(
            [sys.executable, "-I", "-c", STRANGER, str(port), key,
             str(home / "interchange.sock"), *files],
            user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/",
            env={"PATH": os.defpath}, capture_output=True, text=True, timeout=60, check=True,
        ).stdout.split()  # fmt: skip
        assert said == ["private"] * len(files) + ["silence"] * 3
        assert one.value(lambda: 2) == 2
        if transport == "tcp":
            until(lambda: one.engine.status().detail["noise"] > before, "a count of refusals")


# --- speed --------------------------------------------------------------------------------------


def test_the_speed_of_curve_can_be_measured() -> None:
    assert 0 < slow_curve.seconds_per_mib() < 10
