"""The site's files as a whole: what must agree, what must be there."""

import pytest

from mep.manager import site
from mep.wire.settings import SettingsError


def refusal(etc) -> str:
    with pytest.raises(SettingsError) as caught:
        site.load(etc)
    return str(caught.value)


def add(etc, name, line):
    with (etc / name).open("a") as file:
        file.write(line + "\n")


def test_a_consistent_site(etc):
    loaded = site.load(etc)
    assert loaded.token == "link-token"
    assert loaded.peer.url == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("config.yaml", "configure"), ("parent.json", "register"), ("manager.token", "configure")],
)
def test_a_missing_file_names_the_remedy(etc, name, remedy):
    (etc / name).unlink()
    assert f"mep {remedy}" in refusal(etc)


def test_a_template_that_root_does_not_use(etc):
    add(etc, "config.yaml", "user_config_template_path: other.j2")
    assert "make them agree" in refusal(etc)
    add(etc, "policy.toml", "template = 'other.j2'")
    site.load(etc)


def test_the_same_path_written_differently_agrees(etc):
    add(etc, "config.yaml", f"identity_mapping_config_path: {etc}/./identity_mapping.json")
    site.load(etc)


def test_pam_on_paper_only(etc):
    add(etc, "config.yaml", "pam: {enable: true, service_name: hpc}")
    assert "[pam] enable = false" in refusal(etc)
    add(etc, "policy.toml", "[pam]\nenable = true\nservice_name = 'mep'")
    assert "service_name" in refusal(etc)


def test_pam_in_agreement(etc):
    add(etc, "config.yaml", "pam: {enable: true, service_name: hpc}")
    add(etc, "policy.toml", "[pam]\nenable = true\nservice_name = 'hpc'")
    site.load(etc)


def test_a_parent_of_another_relay(etc):
    (etc / "config.yaml").write_text("relay_url: http://127.0.0.1:2\n")
    assert "mep start" in refusal(etc)


def test_a_policy_that_is_no_toml(etc):
    add(etc, "policy.toml", "= =")
    assert "not TOML" in refusal(etc)


def test_an_empty_token(etc):
    (etc / "manager.token").write_text("\n")
    assert "mep register" in refusal(etc)


def test_a_damaged_parent(etc):
    (etc / "parent.json").write_text("{}")
    assert "mep register" in refusal(etc)
