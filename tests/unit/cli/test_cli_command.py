"""The command as people and scripts meet it: help, sentences, exit statuses."""

import json
import os
import subprocess
import sys

import pytest

from mep.cli.__main__ import VERBS, mep


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb):
    from click.testing import CliRunner

    done = CliRunner().invoke(mep, [verb, "--help"])
    assert done.exit_code == 0, done.output
    assert f"{verb} [OPTIONS]" in done.output
    assert len(done.output.splitlines()) > 5


def test_help_imports_no_verb(mep):
    code = (
        "import sys; from mep.cli.__main__ import mep;"
        "mep.main(['--help'], standalone_mode=False);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('yaml','rich','asyncio','websockets','requests')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.splitlines()[-1] == "[]"


TABLE = """
from mep.cli.tables import plain, show
show(("id", "name"), [("7dd8a3a6-34a0-4e3c-8e75-98a4b1f7a0f5", plain("a name " * 20 + "end"))] * 2)
"""


def test_a_table_is_cut_nowhere():
    def lines(**environment: str) -> list[str]:
        command = [sys.executable, "-I", "-c", TABLE]
        environment = {"COLUMNS": "60", "TERM": "xterm", **environment}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()[1:]

    rows = lines()
    assert len(rows) == 2, "in a pipe, for grep"
    assert all(row.rstrip().endswith("end") for row in rows)
    rows = lines(FORCE_COLOR="1")  # as on a terminal
    assert max(map(len, rows)) <= 60
    assert sum(row.startswith("7dd8a3a6-34a0-4e3c-8e75-98a4b1f7a0f5 ") for row in rows) == 2
    assert sum("end" in row for row in rows) == 2


def test_an_unknown_verb_names_the_nearest(mep):
    done = mep("stauts")
    assert done.returncode == 2
    assert "did you mean 'status'" in done.stderr


def test_the_version(mep):
    said = json.loads(mep("version", "--json").stdout)
    assert said["protocol"] == 1
    assert f"3.{sys.version_info.minor}" in said["compute_nodes"]
    assert said["compute_nodes"] in mep("version").stdout


def test_from_nothing_to_a_configured_endpoint(mep, home):
    assert "no endpoints here" in mep("list").stdout
    assert json.loads(mep("list", "--json").stdout) == []
    done = mep("configure", "laptop", "--relay-url", "http://127.0.0.1:1", "--display-name", "x: y")
    assert done.returncode == 0, done.stderr
    assert "mep register laptop" in done.stdout
    etc = home / ".config/mep/laptop"
    assert {path.stat().st_mode & 0o077 for path in [etc, *etc.iterdir()]} == {0}
    (row,) = json.loads(mep("list", "--json").stdout)
    assert (row["name"], row["running"], row["endpoint_id"]) == ("laptop", False, None)
    status = mep("status", "laptop", "--json")
    assert status.returncode == 3
    assert json.loads(status.stdout)["running"] is False
    assert mep("stop", "laptop").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["configure", "a/b", "--relay-url", "http://127.0.0.1:1"], 1, "endpoint's name"),
        (["configure", "x"], 2, "--relay-url"),
        (["configure", "x", "--relay-url", "http://example.org"], 1, "unencrypted"),
        (["configure", "x", "--relay-url", "https://r", "--multi-user"], 1, "root must make it"),
        (["configure", "x", "--relay-url", "https://r", "--pam"], 1, "--pam is for root's"),
        (["status", "nowhere"], 1, "mep configure nowhere"),
        (["start", "nowhere"], 1, "mep configure nowhere"),
        (["register", "nowhere"], 1, "mep configure nowhere"),
        (["login"], 2, "--relay-url"),
    ],
)
def test_mistakes_are_sentences_with_a_remedy(mep, arguments, status, part):
    done = mep(*arguments)
    assert done.returncode == status, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_an_endpoint_is_not_configured_twice(mep):
    mep("configure", "laptop", "--relay-url", "http://127.0.0.1:1")
    done = mep("configure", "laptop", "--relay-url", "http://127.0.0.1:2")
    assert done.returncode == 1
    assert "exists already" in done.stderr


def test_registering_needs_a_token_and_a_relay(mep):
    mep("configure", "laptop", "--relay-url", "http://127.0.0.1:1")
    assert "token of an administrator" in mep("register", "laptop").stderr
    assert "is none" in mep("register", "laptop", "--token-file", "-", given="a\nb").stderr
    assert "spaces" in mep("register", "laptop", "--token-file", "-", given="a b").stderr
    missing = mep("register", "laptop", "--token-file", "no-such-file")
    assert "no-such-file cannot be read" in missing.stderr
    unreachable = mep("register", "laptop", MEP_TOKEN="t")
    assert unreachable.returncode == 1
    assert "cannot be reached" in unreachable.stderr
    assert "mep register" in mep("prepare", "laptop").stderr


SCRIPT = """
def hello(name):
    return name

NUMBERS = (n for n in range(3))

def following():
    return next(NUMBERS)
"""


def test_what_cannot_be_submitted_is_a_sentence(mep, home):
    (home / "script.py").write_text(SCRIPT)
    login = {"MEP_RELAY_URL": "http://127.0.0.1:9", "MEP_TOKEN": "t"}
    at = ("--endpoint", "7dd8a3a6-34a0-4e3c-8e75-98a4b1f7a0f5")
    done = mep("submit", "script.py:following", *at, **login)
    assert done.returncode == 1
    assert done.stderr.startswith("mep: function following cannot be serialized: ")
    assert "Traceback" not in done.stderr
    # A relay that is away is not waited for as long as a script's executor does.
    done = mep("submit", "script.py:hello", "x", *at, **login)
    assert done.returncode == 1
    assert "mep: the relay at http://127.0.0.1:9 does not answer" in done.stderr


def test_a_mistake_in_the_configuration_is_named(mep, home):
    mep("configure", "laptop", "--relay-url", "http://127.0.0.1:1")
    with (home / ".config/mep/laptop/config.yaml").open("a") as file:
        file.write("displayname: x\n")
    done = mep("register", "laptop", MEP_TOKEN="t")
    assert "did you mean 'display_name'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_root_is_told_how_to_make_missing_accounts(site_root):
    code = "from mep.cli.accounts import manager_account; manager_account('mep-no-such')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        env={**os.environ, "MEP_PREFIX": str(site_root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "useradd --system" in done.stderr
    assert "mep-no-such" in done.stderr


@pytest.mark.root
def test_root_has_no_single_user_endpoints(site_root):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "mep.cli", "configure", "x", "--single-user"],
        env={"MEP_PREFIX": str(site_root), "MEP_RELAY_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "tasks would run as root" in done.stderr
