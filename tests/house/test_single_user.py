"""A single-user endpoint: somebody without root serves their own tasks, as themselves."""

import json
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import BIN, Owner, Relay
from mep_sdk import Executor
from mep_sdk.errors import MEPError

pytestmark = pytest.mark.root


def whoami() -> int:
    import os

    return os.getuid()


@pytest.fixture(scope="module")
def owner(relay: Relay, session_accounts: Callable[..., pwd.struct_passwd]) -> Iterator[Owner]:
    owner = Owner(session_accounts("owner"), relay)
    owner.mep("configure", "mine", "--relay-url", relay.url)
    said = owner.mep("start", "mine", "--detach", token=relay.token("carol"))
    owner.endpoint_id = said.split("registered ID: ")[1].split()[0]
    yield owner
    owner.mep("stop", "mine")


def test_it_runs_tasks_as_its_owner(owner: Owner) -> None:
    with Executor(owner.endpoint_id, client=owner.relay.client("carol")) as ex:
        assert ex.submit(whoami).result(60) == owner.account.pw_uid


def test_it_serves_nobody_else(owner: Owner) -> None:
    with Executor(owner.endpoint_id, client=owner.relay.client("dave")) as ex:
        with pytest.raises(MEPError) as caught:
            ex.submit(whoami).result(60)
    assert caught.value.code in {"ENDPOINT_ACCESS_FORBIDDEN", "ENDPOINT_NOT_FOUND"}


def test_its_owner_sees_it(owner: Owner) -> None:
    listed = json.loads(owner.mep("list", "--json"))
    assert "mine" in json.dumps(listed)
    status = json.loads(owner.mep("status", "mine", "--json"))
    assert status["warden"]["pid"]
    for pid in (status["warden"]["pid"], status["manager"]["pid"]):
        assert Path(f"/proc/{pid}").stat().st_uid in {owner.account.pw_uid, 0}
        fields = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert set(fields["Uid"].split()) == {str(owner.account.pw_uid)}


def test_root_refuses_a_single_user_endpoint(site: Any) -> None:
    done = subprocess.run(
        [str(BIN / "mep"), "configure", "no", "--relay-url", site.relay.url, "--single-user"],
        env={**os.environ, "MEP_PREFIX": str(site.prefix)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "root" in done.stderr
