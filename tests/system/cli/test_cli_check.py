"""`mep check`: what is wrong, before somebody is refused for it."""

import json
import re

import pytest

pytestmark = pytest.mark.root
FUNCTION = "6ea2c1b0-2f4c-4b7e-9a36-0c7a4f6d1e55"


def check(mep):
    done = mep.try_("check", "test", "--json")
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["good"] else 1)
    return answer["good"], {(one["level"], one["subject"]): one["words"] for one in answer["said"]}


def append(path, text):
    path.write_text(path.read_text() + text)


def test_a_fresh_endpoint_is_good(registered):
    good, said = check(registered)
    assert good, said
    assert {level for level, _ in said} <= {"ok", "warning"}
    assert ("ok", "warden") in said
    assert ("ok", "template") in said
    assert "ERROR" not in registered("check", "test")


def test_what_is_wrong_is_named(registered, etc):
    (etc / "identity_mapping.json").write_text('{"DATA_TYPE": "x"}')
    append(etc / "config.yaml", "\nhigh_assurance: true\n")
    (etc / "user_config_template.yaml.j2").write_text("engine: {{ 1 +\n")
    good, said = check(registered)
    assert not good
    assert "authentication_policy" in said["error", "config.yaml"]
    assert "TEMPLATE_FAILED" in said["error", "template"]
    assert "$.DATA_TYPE" in said["error", "identity_mapping.json"]
    policy = etc / "policy.toml"
    policy.write_text("minimum_udi = 3\n" + policy.read_text())
    assert "minimum_udi" in check(registered)[1]["error", "accounts"]
    done = registered.try_("check", "test")
    assert done.returncode == 1
    assert "ERROR" in done.stdout


DIRECTORY = {
    "DATA_TYPE": "ldap_identity_mapping#1.0.0",
    "servers": ["ldap://127.0.0.1:1"],
    "base": "dc=x",
    "filter": "(mail={email})",
    "account": "uid",
    "identity_providers": ["p"],
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "$ is not JSON"),
        ("[3]", "$[0] is not an object"),
        (json.dumps(DIRECTORY | {"cache_dir": 5}), "$.cache_dir must be an absolute path"),
        (json.dumps([DIRECTORY | {"servers": 5}]), "$[0].servers must be a list"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_said_once(mep, etc, text, words):
    (etc / "identity_mapping.json").write_text(text)
    good, said = check(mep)
    assert not good
    errors = {subject: one for (level, subject), one in said.items() if level == "error"}
    assert list(errors) == ["identity_mapping.json"]
    assert words in errors["identity_mapping.json"]


def test_what_is_no_text_is_said_once(mep, etc):
    for name in ("identity_mapping.json", "policy.toml"):
        (etc / name).write_bytes(b"\xff")
        good, said = check(mep)
        assert not good
        assert sum("no UTF-8" in one or "not UTF-8" in one for one in said.values()) == 1
    (etc / "denied").write_bytes(b"\xff")
    done = mep.try_("deny", "alice@example.edu")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "denied is not UTF-8 text" in done.stderr


def test_what_the_policy_names_must_be_there(registered, etc):
    """A group or a PAM service that is missing refuses every start; a mistyped account does not."""
    policy = etc / "policy.toml"
    text = policy.read_text()
    lists = 'deny_users = ["no-such-account-here"]\nallow_groups = ["root", "no-such-group-here"]\n'
    policy.write_text(lists + text)
    good, said = check(registered)
    assert not good
    assert "'no-such-account-here', which is no account" in said["warning", "policy.toml"]
    assert "'no-such-group-here', which is no group" in said["error", "policy.toml"]
    for service in ("no-such-service-here", "COMMON-AUTH", "../passwd"):
        name = f'enable = true\nservice_name = "{service}"'
        policy.write_text(re.sub(r'enable = false\nservice_name = ".*"', name, text))
        good, said = check(registered)
        assert not good
        assert "pam.d" in said["error", "names"]
        done = registered.try_("start", "test")
        assert done.returncode == 1
        assert f"/etc/pam.d/{service}" in done.stderr


def test_a_pam_service_that_is_to_be_made_is_said_at_once(mep):
    configure = ("configure", "--relay-url", "https://relay.example.org", "--pam")
    said = mep(*configure, "no-such-service-here", "one")
    assert "make /etc/pam.d/no-such-service-here;" in said
    assert "/etc/pam.d" not in mep(*configure, "other", "two")


def test_files_that_others_can_change(registered, etc):
    (etc / "grant.key").chmod(0o644)
    good, said = check(registered)
    assert not good
    assert "chmod 600" in said["error", "warden"]


def test_dots_that_were_hardly_meant(mep, etc):
    rule = {"source": "{username}", "match": "(.*)@example.edu", "output": "{0}"}
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
    (etc / "identity_mapping.json").write_text(json.dumps([document]))
    good, said = check(mep)
    assert good
    assert "any character" in said["warning", "identity_mapping.json"]
    shown = mep.try_("map", "test", "--identity", "-", given='{"username": "x@y"}')
    assert "any character" in shown.stderr


def program(site_root, result):
    path = site_root / "who"
    path.write_text(f"#!/bin/sh\n{result}\n")
    path.chmod(0o755)
    return {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(path)]}


def test_programs_are_run_as_the_account_for_them(mep, etc, site_root):
    answer = (
        'sed \'s/.*"id": "\\([^"]*\\)".*/{"DATA_TYPE": '
        '"identity_mapping_output#1.0.0", "result": [{"id": "\\1", "output": "guest"}]}/\''
    )
    for script, level, words in (
        ('id -un | grep -q "^mept-callout-" || exit 1; exit 0', "ok", "answers"),
        ("echo database is away >&2; exit 4", "error", "exit status 4: database is away"),
        (answer, "error", "whom nobody is, to guest"),
    ):
        (etc / "identity_mapping.json").write_text(json.dumps([program(site_root, script)]))
        good, said = check(mep)
        assert good == (level == "ok"), said
        assert words in said[level, "identity_mapping.json $[0]"]


def test_a_directory_that_is_away(mep, etc):
    document = {
        "DATA_TYPE": "ldap_identity_mapping#1.0.0",
        "servers": ["ldap://127.0.0.1:1"],
        "base": "dc=x",
        "filter": "(&(mail={email})(o={organization}))",
        "account": "uid",
        "identity_providers": ["p"],
        "cache_dir": "/nowhere",
    }
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    good, said = check(mep)
    assert not good
    assert "no server answers" in said["error", "identity_mapping.json $[0]"]
    assert "install -d -m 0700 -o mept-callout-" in said["warning", "identity_mapping.json $[0]"]


def test_functions_that_are_listed_beside_pickles(mep, etc):
    append(etc / "config.yaml", f"\nallowed_functions: ['{FUNCTION}@{'a' * 64}']\n")
    good, said = check(mep)
    assert good
    assert "allowed_serializers" in said["warning", "template"]
    text = (etc / "policy.toml").read_text()
    strict = text.replace("require_json_data = false", "require_json_data = true")
    assert strict != text
    (etc / "policy.toml").write_text(strict)
    good, said = check(mep)
    assert not good
    assert "require_json_data" in said["error", "template"]
    template = etc / "user_config_template.yaml.j2"
    limited = "engine:\n  allowed_serializers: [DillCodeSource, JSONData]\n"
    template.write_text(template.read_text().replace("engine:\n", limited))
    good, said = check(mep)
    assert good, said
    assert ("warning", "template") not in said


def test_a_start_warns_too(registered, etc):
    """By systemd, whose first step is `mep prepare`, as by `mep start`."""
    append(etc / "config.yaml", f"\nallowed_functions: ['{FUNCTION}']\n")
    assert "allowed_serializers" in registered.try_("prepare", "test").stderr
    process = registered.begin("start", "test")
    assert any("allowed_serializers" in line for line in process.stderr)
    assert process.stdout.readline().startswith("registered ID")


def test_a_single_user_endpoint(plain, relay):
    plain("configure", "test", "--relay-url", relay.url)
    done = plain.try_("check", "test", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["good"]) == (0, True), answer
