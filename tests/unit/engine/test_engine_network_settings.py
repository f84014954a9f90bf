"""Network settings of the ``engine:`` section: which transport, which ports, what is refused."""

import logging

import pytest

from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.build import transport_of
from mep.endpoint.engines.network_settings import crosses_network, ports
from mep.endpoint.engines.settings import read
from mep.endpoint.engines.transport import Beside
from mep.endpoint.interchange.network import Network
from mep.wire.settings import SettingsError


def test_local_pools_use_a_unix_socket_unless_tcp_is_asked_for():
    assert not crosses_network(read({"address": "login1", "worker_port": 5000}))
    assert crosses_network(read({"transport": "tcp"}))
    assert not crosses_network(read({"transport": "ipc"}))


def test_ports():
    assert ports(read({})) == []
    assert ports(read({"worker_port": 5000, "worker_port_range": [6000, 6010]})) == [5000]
    assert ports(read({"worker_ports": [5000]})) == [5000]
    given = ports(read({"worker_port_range": [6000, 6004], "interchange_port_range": [1, 2]}))
    assert sorted(given) == [6000, 6001, 6002, 6003]
    assert ports(read({"interchange_port_range": [7000, 7001]})) == [7000]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"worker_ports": [5000, 5001]}, "share one port here; set worker_port"),
        ({"worker_ports": []}, "set worker_port"),
        ({"worker_port": 70000}, "70000 is no TCP port"),
        ({"worker_port": 0}, "no TCP port"),
        ({"worker_port_range": [5000]}, "as [54000, 55000]"),
        ({"worker_port_range": [5000, 5000]}, "engine.worker_port_range"),
        ({"interchange_port_range": [5001, 5000]}, "engine.interchange_port_range"),
        ({"transport": "udp"}, "known here: ipc, tcp"),
        ({"address": "tcp://*:5000"}, "neither a host name nor an IP address"),
        ({"loopback_address": ""}, "engine.loopback_address"),
        ({"address": {"type": "address_by_interfac"}}, "did you mean 'address_by_interface'"),
        ({"address": {}}, "engine.address.type None is unknown"),
        ({"address": {"type": "address_by_interface"}}, "needs 'ifname'"),
        ({"address": {"type": "address_by_query"}}, "name the address"),
        ({"address": {"type": "address_by_route", "ifname": "x"}}, "has no argument 'ifname'"),
        ({"address_probe_timeout": 0}, "> 0"),
    ],
)
def test_what_is_refused(section, words):
    with pytest.raises(SettingsError) as refused:
        read(section)
    assert words in str(refused.value)


def made(tmp_path, section, allowed):
    around = Surroundings(str(tmp_path), "e", "u", 1000, unencrypted_allowed=allowed)
    return transport_of(read(section), around)


def test_encryption_is_not_a_template_s_to_switch_off(tmp_path, caplog):
    section = {"transport": "tcp", "encrypted": False}
    with caplog.at_level(logging.WARNING):
        transport = made(tmp_path, section, allowed=False)
    assert isinstance(transport, Network)
    transport.prepare()
    assert "server_key" in transport.admit("0")
    transport.close()
    assert "allow_unencrypted_pools" in caplog.text


def test_the_administrator_may_switch_encryption_off(tmp_path, caplog):
    transport = made(tmp_path, {"transport": "tcp", "encrypted": False}, allowed=True)
    transport.prepare()
    connect = transport.admit("0")
    transport.close()
    assert "server_key" not in connect
    assert len(connect["password"]) > 30
    assert not caplog.text


def test_a_unix_socket_has_nothing_to_encrypt(tmp_path, caplog):
    assert isinstance(made(tmp_path, {"encrypted": False}, allowed=False), Beside)
    assert not caplog.text
