"""``mep groups`` against a running relay."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from relay_driver import BOUND_S


@pytest.fixture
def mep(running: Any, tmp_path: Path) -> Any:
    def run(*words: str, who: Any = running.alice) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MEP_")}
        return subprocess.run(
            [sys.executable, "-m", "mep.cli", "groups", *words],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            env={
                **environment,
                "XDG_CONFIG_HOME": str(tmp_path),
                "MEP_RELAY_URL": running.url,
                "MEP_TOKEN": who.token,
            },
        )

    return run


def test_a_group_from_its_making_to_its_end(running: Any, mep: Any) -> None:
    group = mep("create", "physics", "--description", "d").stdout.strip()
    assert mep("add", group, "bob@relay.local").stdout == (
        "bob@relay.local is a member of physics\n"
    )
    assert mep("list").stdout.count(f"{group}  manager  physics\n") == 1
    assert f"{group}  member   physics\n" in mep("list", who=running.bob).stdout
    members = json.loads(mep("list", group, "--json").stdout)
    assert [(each["username"], each["role"]) for each in members] == [
        ("alice@example.org", "manager"),
        ("bob@relay.local", "member"),
    ]
    refused = mep("delete", group, who=running.bob)
    assert refused.returncode == 1
    assert "Only a manager of group physics" in refused.stderr
    mep("add", group, "bob@relay.local", "--manager")
    assert mep("remove", group, "alice@example.org").returncode == 0
    assert mep("list", group).returncode == 1
    assert mep("delete", group, who=running.bob).stdout == "deleted\n"
    assert group not in mep("list", who=running.bob).stdout


def test_what_is_wrong_is_a_sentence(mep: Any) -> None:
    for words in (("list", "../x"), ("add", "x", "y"), ("create", "")):
        done = mep(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("mep: the relay refuses: ")
