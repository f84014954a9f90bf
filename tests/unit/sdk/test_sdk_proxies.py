"""HTTPS proxies named by the environment: requests, the stream and logins go through them."""

import base64
import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mep_sdk import Client, Executor, oauth
from mep_sdk.errors import CredentialsError, RelayUnreachable
from relays import TOKEN, WAIT_S, EchoRelay

EP = str(uuid.uuid4())


class ConnectProxy:
    """An HTTP proxy that knows CONNECT; with `password`, for those who know it."""

    def __init__(self, password: str = "") -> None:
        self.asked: list[str] = []
        self._expected = base64.b64encode(f"alice:{password}".encode()).decode() if password else ""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = [self._listening]

    def __enter__(self) -> "ConnectProxy":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT_S)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._sockets.append(near)
                self._threads.append(threading.Thread(target=self._serve, args=(near,)))
                self._threads[-1].start()

    def _serve(self, near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(4096)
        lines = head.decode().split("\r\n")
        method, where, _ = lines[0].split()
        self.asked.append(f"{method} {where}")
        if self._expected and f"Proxy-Authorization: Basic {self._expected}" not in lines:
            near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            with contextlib.suppress(OSError):  # whoever asked has hung up already
                near.shutdown(socket.SHUT_RDWR)
            return
        host, _, port = where.rpartition(":")
        far = socket.create_connection((host, int(port)))
        self._sockets.append(far)
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._threads.append(threading.Thread(target=self._copy, args=(far, near)))
        self._threads[-1].start()
        self._copy(near, far)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    key, ca = map(str, certificate)
    relay = EchoRelay()
    with relay.serving(ssl_certfile=ca, ssl_keyfile=key) as url:
        yield relay, url, ca


@pytest.mark.parametrize("password", ["", "s3cret"])
def test_everything_goes_through_the_proxy(
    relay: Any, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo, url, ca = relay
    with ConnectProxy(password) as proxy:
        who = f"alice:{password}@" if password else ""
        monkeypatch.setenv("HTTPS_PROXY", f"http://{who}127.0.0.1:{proxy.port}")
        client = Client(url, TOKEN, ca, patience_s=5)
        with Executor(EP, client=client) as ex:
            assert ex.submit(pow, 2, 3).result(WAIT_S) == 8
            echo.until(lambda: echo.hellos)
        client.close()
        assert set(proxy.asked) == {f"CONNECT {url.removeprefix('https://')}"}
        assert len(proxy.asked) >= 2, "requests and the stream"
        before = len(proxy.asked)
        with pytest.raises(CredentialsError, match="no relay would"):  # it knows no logins
            oauth.begin(url, ca)
        assert proxy.asked[before:] == proxy.asked[:1]


def test_no_proxy_for_this_relay(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url, ca = relay
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = Client(url, TOKEN, ca, patience_s=5)
    with Executor(EP, client=client) as ex:
        assert ex.submit(pow, 2, 3).result(WAIT_S) == 8
    client.close()


def test_a_proxy_that_refuses(relay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url, ca = relay
    with ConnectProxy("s3cret") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        client = Client(url, TOKEN, ca, patience_s=0.2)
        with pytest.raises(RelayUnreachable, match="407"):
            client.whoami()
        client.close()
