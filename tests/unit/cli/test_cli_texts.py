"""Texts that the command line writes into configuration."""

import json
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mep.cli import configure, examples, mapping
from mep.cli.errors import CliError
from mep.cli.registration import with_owner
from mep.cli.site import site
from mep.manager import config

TEXT = "# comment\nrelay_url: old\n#ca_file: x\ndebug: false\n"


def test_a_line_is_set_whether_commented_or_not():
    text = configure.set_line(configure.set_line(TEXT, "relay_url", "new"), "ca_file", "/ca")
    assert yaml.safe_load(text) == {"relay_url": "new", "ca_file": "/ca", "debug": False}
    assert text.startswith("# comment\n")


def test_a_key_that_is_not_there_is_added():
    assert yaml.safe_load(configure.set_line(TEXT, "public", True))["public"] is True


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_value_breaks_out(value):
    read = yaml.safe_load(configure.set_line(TEXT, "display_name", value))
    assert read == {"relay_url": "old", "debug": False, "display_name": value}


@pytest.mark.parametrize("uid", [0, 1000])
def test_what_configure_writes_can_be_used(uid):
    place = site("test", {"MEP_PREFIX": "/p", "XDG_STATE_HOME": "/s"}, uid=uid)
    settings = {"relay_url": "https://r.example.org", "multi_user": place.privileged}
    texts = configure.contents(place, settings)
    read, warnings = config.decode(texts["config.yaml"])
    assert (read.relay_url, read.multi_user) == ("https://r.example.org", place.privileged)
    assert warnings == ()
    tomllib.loads(texts["policy.toml"])
    json.loads(texts["user_config_schema.json"])
    assert ("identity_mapping.json" in texts) == place.privileged


def test_a_fresh_mapping_maps_nobody_and_the_example_is_beside_it():
    place = site("test", {"MEP_PREFIX": "/p"}, uid=0)
    texts = configure.contents(place, {})
    assert json.loads(texts["identity_mapping.json"])[0]["mappings"] == []
    assert texts[configure.EXAMPLE_MAPPING] == examples.text("identity_mapping.json")


def test_the_owner_is_written_and_replaced():
    ids = ["9f6d2c1e-8b60-4a0e-b6a5-3a4d9f6a7b10"]
    once = with_owner(configure.OWNERS_POLICY, ids)
    assert tomllib.loads(once) == {"owner": ids}
    again = with_owner(once, ["0" * 8, "1" * 8])
    assert tomllib.loads(again) == {"owner": ["0" * 8, "1" * 8]}
    assert "owner" in again.splitlines()[0] or again.startswith("# What")


def test_the_owner_is_added_before_any_table():
    text = with_owner("minimum_uid = 5\n[pam]\nenable = false\n", ["x"])
    assert tomllib.loads(text) == {"owner": ["x"], "minimum_uid": 5, "pam": {"enable": False}}


def test_identity_records_in_every_form():
    one = {"username": "alice@example.org"}
    full = {"id": "record 0", "status": "used", **one}
    assert mapping.records(json.dumps(one).encode()) == [full]
    assert mapping.records(json.dumps([one]).encode()) == [full]
    whoami = {"sub": "x", "identity_set": [{**one, "email": None}]}
    assert mapping.records(json.dumps(whoami).encode()) == [full]


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '[{"username": 3}]', "[[]]", '{"identity_set": 1}']
)
def test_what_is_no_identity(text):
    with pytest.raises(CliError):
        mapping.records(text.encode())
