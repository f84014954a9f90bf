"""Paths and names of an endpoint."""

from pathlib import Path

import pytest

from mep.cli import site
from mep.cli.errors import CliError


def test_roots_paths():
    place = site.site("cluster", {}, uid=0)
    assert place.privileged
    assert str(place.etc) == "/etc/mep/cluster"
    assert str(place.warden_socket) == "/run/mep-warden/cluster/warden.sock"
    assert str(place.events_socket) == "/run/mep/cluster/events.sock"
    assert str(place.audit_file) == "/var/log/mep-warden/cluster/audit.log"


def test_a_prefix_stands_before_all_of_them(tmp_path):
    place = site.site("cluster", {"MEP_PREFIX": str(tmp_path)}, uid=0)
    paths = (place.etc, place.state, place.run, place.log)
    wardens = (place.warden_state, place.warden_run, place.warden_log)
    assert all(path.is_relative_to(tmp_path) for path in paths + wardens)


def test_a_prefix_is_resolved_and_absolute(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    place = site.site("c", {"MEP_PREFIX": str(tmp_path / "link")}, uid=0)
    assert place.etc == tmp_path / "etc/mep/c"
    with pytest.raises(CliError, match="absolute"):
        site.site("c", {"MEP_PREFIX": "here"}, uid=0)


def test_anyone_elses_paths(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_STATE_HOME": "relative"}
    place = site.site("laptop", environ, uid=1000)
    assert not place.privileged
    assert place.etc == tmp_path / "c/mep/laptop"
    assert place.state == (Path.home() / ".local/state").resolve() / "mep/laptop"
    assert place.run == place.state / "run"


@pytest.mark.parametrize("name", ["a", "Cluster-1.example_x", "9" * 64])
def test_names(name):
    site.check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "é", "a" * 65])
def test_no_names(name):
    with pytest.raises(CliError, match="cannot be an endpoint's name"):
        site.check_name(name)


def test_a_path_too_long_for_a_socket(tmp_path):
    with pytest.raises(CliError, match="shorter"):
        site.site("x" * 64, {"XDG_STATE_HOME": f"/{'y' * 60}"}, uid=1000)
