"""Thousands of tasks through restarts, cuts, expired tokens and a closed laptop: all right."""

import json
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT_S = 480


@pytest.mark.root
@pytest.mark.timeout(LIMIT_S + 20)
def test_every_task_comes_back_once(
    site_root: Path, session_accounts: Callable[[str], pwd.struct_passwd]
) -> None:
    names = {"user": "carol", "manager": "mgr", "callout": "map"}
    accounts = {key: session_accounts(label).pw_name for key, label in names.items()}
    place = json.dumps({"root": str(site_root), **accounts})
    log = site_root / "chaos.log"
    with log.open(
        "w"
    ) as said:  # a file: whoever is left over after a failure holds no pipe of ours
        done = subprocess.run(
            ["unshare", "--net", sys.executable, str(Path(__file__).with_name("chaos.py")), place],
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    text = log.read_text()
    assert done.returncode == 0, text[-4000:]
    assert json.loads(text.splitlines()[-1]) == {
        "right": 5000,
        "pending": 0,
        "errors": [],
        "ended_twice": 0,
        "task_ids": 5000,
        "executed": 5000,
        "doubled": 0,
    }
