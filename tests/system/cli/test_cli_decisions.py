"""`mep map` and `mep render`: the decisions that users meet, before they meet them."""

import json
import os
import pwd
import tomllib

import pytest
from testbed.slapd import BASE, BIND_DN, PASSWORD

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
    assert rules_said == [(f"$[0].mappings[{n}]", rules if n == 1 else None) for n in range(4)]
    text = mep("map", "test", "--identity", "-", given='{"username": "alice@example.edu"}')
    assert f"account: {rules}" in text
    assert "served" in text


def test_rules_after_the_one_that_decides_are_shown(mep, rules, etc):
    """But no program is asked any more, as at a start."""
    path = etc / "identity_mapping.json"
    failing = {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": ["/bin/false"]}
    late = [{"source": "{username}", "match": ".*", "output": "late"}]
    kind = "expression_identity_mapping#1.0.0"
    documents = [*json.loads(path.read_text()), failing, {"DATA_TYPE": kind, "mappings": late}]
    path.write_text(json.dumps(documents))
    status, verdict = ask(mep, "alice@example.edu")
    assert (status, verdict["account"], verdict["code"]) == (0, rules, None)
    assert (verdict["findings"][-1]["rule"], verdict["findings"][-1]["output"]) == (
        "$[2].mappings[0]",
        "late",
    )
    text = mep("map", "test", "--identity", "-", given='{"username": "alice@example.edu"}')
    assert "-> late, but an earlier rule has decided" in text
    assert text.count("=>") == 1
    assert ask(mep, "carol@example.edu")[1]["code"] == "START_FAILED", "there it is asked"


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


@pytest.mark.parametrize("who", ["account", "Alice@Example.EDU", "an-id"])
def test_who_is_denied_is_refused(mep, rules, who):
    """As by the warden: by the account, or by any identity of the set."""
    mep("deny", rules if who == "account" else who, "--endpoint", "test")
    status, verdict = ask(mep, "alice@example.edu", id="an-id")
    assert (status, verdict["code"], verdict["account"]) == (1, "ACCOUNT_REFUSED", rules)
    assert verdict["detail"].startswith("mep deny: ")
    mep("allow", rules if who == "account" else who)
    assert ask(mep, "alice@example.edu", id="an-id")[0] == 0


def test_a_group_that_does_not_exist_is_said(mep, rules, etc):
    policy = etc / "policy.toml"
    policy.write_text(f'deny_groups = ["no-such-group-here"]\n{policy.read_text()}')
    status, verdict = ask(mep, "alice@example.edu")
    assert (status, verdict["code"]) == (1, "START_FAILED")
    assert "no-such-group-here" in verdict["detail"]


def test_a_name_that_a_terminal_would_obey(mep, rules, etc):
    """The file may be somebody else's: nothing in it moves a cursor."""
    rule = {"source": "{username}", "match": "(.*)@example\\.edu", "output": "{0}"}
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    record = json.dumps({"username": "\x1b[2J\u202ebob[red]@example.edu", "status": "used"})
    done = mep.try_("map", "test", "--identity", "-", given=record)
    assert "bob[red]@example.edu" in done.stdout
    assert "account: \N{REPLACEMENT CHARACTER}[2J" in done.stdout
    assert not {"\x1b", "\u202e"} & {*done.stdout}


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


def test_a_directory_is_asked_by_the_account_for_look_ups(mep, etc, site_root, slapd):
    """With StartTLS and a password that this account alone can read; refusals come with reasons."""
    look_up = pwd.getpwnam(tomllib.loads((etc / "policy.toml").read_text())["callout_user"])
    password, cache = site_root / "ldap.password", site_root / "cache"
    password.write_text(PASSWORD)
    os.chown(password, 0, look_up.pw_gid)
    password.chmod(0o440)
    cache.mkdir(mode=0o700)
    os.chown(cache, look_up.pw_uid, look_up.pw_gid)
    document = {
        "DATA_TYPE": "ldap_identity_mapping#1.0.0",
        "servers": [slapd.ldap],
        "start_tls": True,
        "ca_file": str(slapd.ca_file),
        "bind_dn": BIND_DN,
        "password_file": str(password),
        "base": BASE,
        "filter": "(mail={username})",
        "account": "uid",
        "identity_providers": ["site"],
        "cache_dir": str(cache),
    }
    (etc / "identity_mapping.json").write_text(json.dumps([document]))
    for _ in range(2):  # from the directory, then from what is remembered
        status, verdict = ask(mep, "alice@uni.test", identity_provider="site")
        assert (verdict["account"], verdict["code"]) == ("alice", "ACCOUNT_UNKNOWN")
    assert verdict["findings"][0]["why"] == "the cache has an entry for it"
    assert [path.stat().st_uid for path in cache.iterdir()] == [look_up.pw_uid]
    assert ask(mep, "alice@uni.test")[1]["code"] == "IDENTITY_NOT_MAPPED"
    status, verdict = ask(mep, "twin@uni.test", identity_provider="site")
    assert (status, verdict["account"], verdict["code"]) == (1, None, "START_FAILED")
    assert "more than one entry" in verdict["detail"]
    password.chmod(0o444)
    status, verdict = ask(mep, "bob@uni.test", identity_provider="site")
    assert (status, verdict["account"], verdict["code"]) == (1, None, "START_FAILED")
    assert "open to others" in verdict["detail"]


def test_the_people_of_a_domain_are_mapped_at_once(mep, relay, admin_token, site_root):
    """The provider that is pinned is the one that root's login came by."""
    arguments = ("configure", "campus", "--relay-url", relay.url, "--domain", "example.edu")
    assert "--identity-provider" in mep.try_(*arguments).stderr
    mep(*arguments, MEP_TOKEN=admin_token)
    known = json.loads(mep("whoami", "--json", MEP_RELAY_URL=relay.url, MEP_TOKEN=admin_token))
    provider = known["identity_set"][0]["identity_provider"]
    policy = site_root / "etc/mep/test/policy.toml"
    (site_root / "etc/mep/campus/policy.toml").write_text(policy.read_text())

    def verdict(**person):
        record = json.dumps(person)
        done = mep.try_("map", "campus", "--identity", "-", "--json", given=record)
        return json.loads(done.stdout)["account"]

    assert verdict(username="alice@example.edu", identity_provider=provider) == "alice"
    assert verdict(username="alice@example.edu", identity_provider="x") is None
    assert verdict(username="alice@example.edu.evil.com", identity_provider=provider) is None


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


def test_a_template_that_switches_encryption_off_is_warned_of(mep, etc):
    (etc / "user_config_template.yaml.j2").write_text("engine:\n  encrypted: false\n")
    assert "allow_unencrypted_pools" in mep.try_("render", "test").stderr
    settings = etc / "config.yaml"
    settings.write_text(settings.read_text() + "\nallow_unencrypted_pools: true\n")
    done = mep.try_("render", "test")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_template_with_a_mistake(mep, etc):
    (etc / "user_config_template.yaml.j2").write_text("engine: {{ 1 +\n")
    assert "TEMPLATE_FAILED" in mep.try_("render", "test").stderr
    (etc / "user_config_template.yaml.j2").write_text("engine: {}\nno_such: 1\n")
    assert "CONFIG_REFUSED" in mep.try_("render", "test").stderr


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("{provider: {type: SlurmProvidr}}", "did you mean 'SlurmProvider'"),
        ("{provider: {type: SlurmProvider, partion: cpu}}", "did you mean 'partition'"),
        ("{type: GlobusMPIEngine, cores_per_worker: 2}", "not for a GlobusMPIEngine"),
        (
            "{provider: {type: AWSProvider, image_id: i, key_name: k}}",
            "needs the Python package boto3",
        ),
    ],
)
def test_an_engine_that_no_user_endpoint_could_have_is_refused(mep, etc, engine, words):
    (etc / "user_config_template.yaml.j2").write_text(f"engine: {engine}\n")
    done = mep.try_("render", "test")
    assert (done.returncode, done.stdout) == (1, "")
    assert "CONFIG_REFUSED" in done.stderr
    assert words in done.stderr


def test_root_is_given_up_before_a_template_is_rendered(mep, etc):
    """A template that root alone could include is not included."""
    secret = etc / "secret.txt"
    secret.write_text("display_name: leaked\n")
    secret.chmod(0o600)
    (etc / "user_config_template.yaml.j2").write_text("{% include 'secret.txt' %}\nengine: {}\n")
    done = mep.try_("render", "test")
    assert done.returncode == 1
    assert "leaked" not in done.stdout + done.stderr
