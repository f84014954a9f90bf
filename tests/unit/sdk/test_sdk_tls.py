"""A relay with a certificate of its own CA: trusted by both connections, or by none."""

import uuid
from pathlib import Path

import pytest
from mep_sdk import Client, Executor
from mep_sdk.errors import CredentialsError, RelayUnreachable
from relays import TOKEN, WAIT_S, EchoRelay

EP = str(uuid.uuid4())


def hello(name: str) -> str:
    return f"Hello {name}"


def test_a_ca_of_one_s_own(certificate: tuple[Path, Path]) -> None:
    key, chain = map(str, certificate)
    with EchoRelay().serving(ssl_keyfile=key, ssl_certfile=chain) as url:
        client = Client(url, TOKEN, chain)
        with Executor(EP, client=client) as ex:
            assert ex.submit(hello, "TLS").result(WAIT_S) == "Hello TLS"
        client.close()


def test_a_relay_that_cannot_be_verified_hears_nothing(certificate: tuple[Path, Path]) -> None:
    key, chain = map(str, certificate)
    relay = EchoRelay()
    with relay.serving(ssl_keyfile=key, ssl_certfile=chain) as url:
        client = Client(url, TOKEN)
        with Executor(EP, client=client) as ex:
            with pytest.raises(RelayUnreachable, match="set MEP_CA_FILE"):
                ex.submit(hello, "x").result(WAIT_S)
        client.close()
    assert relay.requests == []


def test_ca_certificates_that_are_not_there() -> None:
    client = Client("https://127.0.0.1:9", TOKEN, "/no/such/file.pem")
    with pytest.raises(CredentialsError, match=r"/no/such/file\.pem"):
        client.whoami()
