"""config.yaml: what is accepted, what is refused and in which words."""

import msgspec
import pytest

from mep.manager import config
from mep.wire.settings import SettingsError

MINIMAL = "relay_url: https://relay.example.org:8443\n"
FUNCTION = "6ea2c1b0-2f4c-4b7e-9a36-0c7a4f6d1e55"


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        config.decode(text)
    return str(caught.value)


def test_only_the_relay_is_needed():
    read, warnings = config.decode(MINIMAL)
    assert read.relay_url == "https://relay.example.org:8443"
    assert read.multi_user
    assert read.allowed_functions is None
    assert warnings == ()


def test_every_setting_is_described():
    for field in msgspec.json.schema(config.Config)["$defs"]["Config"]["properties"].values():
        assert field["description"]


def test_an_unknown_key_is_refused_with_the_nearest():
    assert "did you mean 'display_name'" in refusal(MINIMAL + "displayname: x\n")


def test_keys_without_meaning_warn_and_change_nothing():
    read, warnings = config.decode(MINIMAL + "amqp_port: 443\nenvironment: null\n")
    assert read == config.decode(MINIMAL)[0]
    assert ["amqp_port" in warnings[0], "environment" in warnings[1]] == [True, True]


@pytest.mark.parametrize("key", sorted(config.MISPLACED))
def test_keys_that_would_be_lost_are_refused(key):
    assert config.MISPLACED[key] in refusal(f"{MINIMAL}{key}: 1\n")


@pytest.mark.parametrize(
    "url",
    [
        "relay.example.org",
        "ftp://relay.example.org",
        "https://",
        "https://relay.example.org/path",
        "https://me:secret@relay.example.org",
        "https://relay.example.org:99999",
        "https://relay.example.org:0",
        "https://relay.example.org?x=1",
    ],
)
def test_urls_that_are_none(url):
    assert "relay_url must be" in refusal(f"relay_url: {url}\n")


def test_plain_http_stays_on_this_machine_unless_allowed():
    assert config.check_relay_url("http://127.0.0.1:5000/") == "http://127.0.0.1:5000"
    assert config.check_relay_url("http://localhost:5000") == "http://localhost:5000"
    assert "unencrypted" in refusal("relay_url: http://relay.example.org\n")
    assert "unencrypted" in refusal("relay_url: http://127.0.0.1.example.org\n")
    read, _ = config.decode("relay_url: http://relay.example.org\nallow_plain_http: true\n")
    assert read.allow_plain_http


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("heartbeat_period: soon", "heartbeat_period"),
        ("heartbeat_period: 0.5", ">= 1"),
        ("public: 'yes'", "bool"),
        ("allowed_functions: [x]", "UUID"),
        ("pam: {enabled: true}", "enabled"),
        ("display_name: [", "not YAML"),
    ],
)
def test_values_of_a_wrong_type(line, part):
    assert part in refusal(f"{MINIMAL}{line}\n")


def test_no_mapping_at_all():
    assert "mapping" in refusal("- a\n- b\n")
    assert "relay_url" in refusal("")


def test_parent_has_its_own_settings_and_all_others_as_written():
    text = f"{MINIMAL}allowed_functions: [{FUNCTION}]\npublic: true\namqp_port: 443\ndebug: true\n"
    parent = config.parent(text, endpoint_id="e", name="cluster")
    assert parent.allowed_functions == (FUNCTION,)
    assert parent.debug
    assert parent.settings == {"public": True, "amqp_port": 443}
    assert (parent.endpoint_id, parent.endpoint_name) == ("e", "cluster")


def test_no_allowed_function_is_not_any_function():
    assert config.parent(f"{MINIMAL}allowed_functions: []", endpoint_id="e", name="n") == (
        config.Parent(
            endpoint_id="e",
            endpoint_name="n",
            relay_url="https://relay.example.org:8443",
            allowed_functions=(),
        )
    )


def test_user_endpoints_learn_whether_pools_may_go_unencrypted():
    text = f"{MINIMAL}allow_unencrypted_pools: true"
    parent = config.parent(text, endpoint_id="e", name="n")
    assert parent.settings["allow_unencrypted_pools"] is True
    with pytest.raises(SettingsError, match="allow_unencrypted_pools"):
        config.decode(f"{MINIMAL}allow_unencrypted_pools: 1")
