"""`mep map` and `mep render`: the decisions that users meet, before they meet them."""

import json
import tomllib

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def rules(etc, session_accounts):
    """Maps alice and mallory; returns alice's account."""
    account = session_accounts("alice").pw_name
    mappings = [
        {"source": "{username}", "match": "nobody@example\\.edu", "output": "nobody-here"},
        {"source": "{username}", "match": "alice@example\\.edu", "output": account},
        {"source": "{username}", "match": "mallory@example\\.edu", "output": "root"},
        {"source": "{username}", "match": "(ghost)@example\\.edu", "output": "no-such-{0}"},
    ]
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": mappings}
    (etc / "identity_mapping.json").write_text(json.dumps([document]))
    return account


def ask(mep, username, **fields):
    record = json.dumps({"username": username, **fields})
    done = mep.try_("map", "test", "--identity", "-", "--json", given=record)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_mapped_identity_and_the_rule_that_decided(mep, rules):
    status, verdict = ask(mep, "alice@example.edu")
    assert (status, verdict["account"], verdict["code"]) == (0, rules, None)
    rules_said = [(finding["rule"], finding["output"]) for finding in verdict["findings"]]
    assert rules_said == [("$[0].mappings[0]", None), ("$[0].mappings[1]", rules)]
    text = mep("map", "test", "--identity", "-", given='{"username": "alice@example.edu"}')
    assert f"account: {rules}" in text
    assert "served" in text


@pytest.mark.parametrize(
    ("username", "code"),
    [
        ("carol@example.edu", "IDENTITY_NOT_MAPPED"),
        ("alice@example.edu\n", "IDENTITY_NOT_MAPPED"),
        ("mallory@example.edu", "ACCOUNT_REFUSED"),
        ("ghost@example.edu", "ACCOUNT_UNKNOWN"),
    ],
)
def test_refusals(mep, rules, username, code):
    status, verdict = ask(mep, username)
    assert (status, verdict["code"]) == (1, code)
    assert verdict["message"]


def test_an_identity_that_does_not_count(mep, rules):
    status, verdict = ask(mep, "alice@example.edu", status="unused")
    assert (status, verdict["code"]) == (1, "IDENTITY_NOT_MAPPED")


def test_an_external_mapping_runs_as_the_account_for_it(mep, etc, site_root):
    program = site_root / "who"
    program.write_text(
        "#!/usr/bin/python3\n"
        "import getpass, json, sys\n"
        "ids = [i['id'] for i in json.load(sys.stdin)['identities']]\n"
        "result = [{'id': i, 'output': getpass.getuser()} for i in ids]\n"
        "kind = 'identity_mapping_output#1.0.0'\n"
        "print(json.dumps({'DATA_TYPE': kind, 'result': result}))\n"
    )
    program.chmod(0o755)
    kind = "external_identity_mapping#1.0.0"
    document = {"DATA_TYPE": kind, "command": [str(program)]}
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    policy = tomllib.loads((etc / "policy.toml").read_text())
    status, verdict = ask(mep, "alice@example.edu")
    assert verdict["account"] == policy["callout_user"]
    assert (status, verdict["code"]) == (1, "ACCOUNT_REFUSED"), "the daemon's own account"


def test_nobody_is_mapped_before_the_file_is_edited(mep):
    assert ask(mep, "alice@example.org")[1]["code"] == "IDENTITY_NOT_MAPPED"


def test_a_mapping_that_is_wrong_names_the_place(mep, etc):
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [{"source": 1}]}
    (etc / "identity_mapping.json").write_text(json.dumps([document]))
    done = mep.try_("map", "test", "--identity", "-", given='{"username": "a"}')
    assert done.returncode == 1
    assert "mappings[0].source" in done.stderr
    (etc / "identity_mapping.json").write_text("[")
    done = mep.try_("map", "test", "--identity", "-", given='{"username": "a"}')
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_the_example_template_renders(mep):
    text = mep("render", "test")
    assert "type: GlobusComputeEngine" in text
    options = '{"MAX_WORKERS": 7}'
    done = mep("render", "test", "--user-options", "-", "--json", given=options)
    assert json.loads(done)["config"]["engine"]["max_workers_per_node"] == 7


def test_the_refusal_is_the_users(mep):
    done = mep.try_("render", "test", "--user-options", "-", given='{"PARTITION": "x"}')
    assert done.returncode == 1
    assert "OPTIONS_REFUSED" in done.stderr
    assert "/PARTITION" in done.stderr
    done = mep.try_("render", "test", "--user-options", "-", "--json", given='{"MAX_WORKERS": 65}')
    assert json.loads(done.stdout)["error"]["code"] == "OPTIONS_REFUSED"


def test_a_template_with_a_mistake(mep, etc):
    (etc / "user_config_template.yaml.j2").write_text("engine: {{ 1 +\n")
    assert "TEMPLATE_FAILED" in mep.try_("render", "test").stderr
    (etc / "user_config_template.yaml.j2").write_text("engine: {}\nno_such: 1\n")
    assert "CONFIG_REFUSED" in mep.try_("render", "test").stderr


def test_root_is_given_up_before_a_template_is_rendered(mep, etc):
    """A template that root alone could include is not included."""
    secret = etc / "secret.txt"
    secret.write_text("display_name: leaked\n")
    secret.chmod(0o600)
    (etc / "user_config_template.yaml.j2").write_text("{% include 'secret.txt' %}\nengine: {}\n")
    done = mep.try_("render", "test")
    assert done.returncode == 1
    assert "leaked" not in done.stdout + done.stderr
