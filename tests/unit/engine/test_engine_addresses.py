"""Addresses and ports: which are offered to nodes, and what cannot be had."""

import socket

import pytest

from mep.endpoint.engines.base import EngineError
from mep.endpoint.interchange import addresses
from mep.endpoint.interchange.network import reach

FOUND = {
    "lo": ["127.0.0.1", "::1"],
    "docker0": ["172.17.0.1"],
    "ib0": ["10.10.0.5", "fe80::1%ib0", "2001:db8::5"],
    "eth0": ["192.168.1.5", "169.254.3.3"],
}


def test_real_interfaces_come_before_the_name_and_virtual_ones_last():
    assert addresses.plausible(FOUND, "login1") == [
        "10.10.0.5",
        "192.168.1.5",
        "2001:db8::5",
        "login1",
        "172.17.0.1",
    ]


def test_a_machine_without_network_has_its_name():
    assert addresses.plausible({"lo": ["127.0.0.1"]}, "login1") == ["login1"]


def test_an_address_that_is_named_is_taken_as_it_is():
    assert addresses.chosen("login1.example.org", FOUND) == "login1.example.org"


def test_the_address_of_an_interface():
    how = {"type": "address_by_interface", "ifname": "ib0"}
    assert addresses.chosen(how, FOUND) == "10.10.0.5"
    with pytest.raises(EngineError, match=r"'bond0', which .* it has docker0, eth0, ib0, lo"):
        addresses.chosen({**how, "ifname": "bond0"}, FOUND)


def test_the_interfaces_of_this_machine_have_the_loopback():
    assert "127.0.0.1" in addresses.interfaces()["lo"]


def test_any_port_one_port_or_the_first_that_is_free():
    with addresses.listen("127.0.0.1", []) as one:
        taken = one.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {taken} is taken .* worker_port_range"):
            addresses.listen("127.0.0.1", [taken])
        with addresses.listen("127.0.0.1", []) as free:
            port = free.getsockname()[1]
        with addresses.listen("127.0.0.1", [taken, port]) as two:
            assert two.getsockname()[1] == port
            with pytest.raises(EngineError, match="all 2 ports are taken"):
                addresses.listen("127.0.0.1", [taken, port])


def test_all_addresses_are_listened_at_where_none_is_given():
    with addresses.listen("", []) as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "127.0.0.2"):
            socket.create_connection((host, port), 5).close()


def test_an_address_of_another_machine_cannot_be_listened_at():
    with pytest.raises(EngineError, match=r"192\.0\.2\.7 port 0"):
        addresses.listen("192.0.2.7", [])


def found(how, **others):
    given = {"local": False, "loopback": "127.0.0.1", "ports": [], "probe_s": 30, **others}
    return reach(how, **given)


def test_local_node_pools_use_the_loopback_unless_told_otherwise():
    where = found(None, local=True)
    assert (list(where.addresses), where.host) == (["127.0.0.1"], "127.0.0.1")
    where = found("login1", local=True)
    assert (list(where.addresses), where.host) == (["login1"], "")


def test_only_the_named_address_is_listened_at_if_it_is_this_machine_s():
    assert found("127.0.0.3").host == "127.0.0.3"
    assert found("192.0.2.7").host == ""


def test_remote_node_pools_try_all_and_all_is_listened_at():
    where = found(None)
    assert socket.gethostname() in where.addresses
    assert "127.0.0.1" not in where.addresses
    assert where.host == ""
