"""Every refusal reaches the SDK as an exception with a sentence, soon, and never as a 5xx."""

import concurrent.futures
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from house import until
from mep_sdk import Client, Executor
from mep_sdk.errors import MEPError

pytestmark = pytest.mark.root

SOON_S = 60.0
"""Far above the second or two that a refusal takes; a lost task would wait for ever."""


def hello() -> str:
    return "hello"


def refusal(site: Any, user: str, **kwargs: Any) -> MEPError:
    ex = site.executor(user, **kwargs)
    with ex, pytest.raises(MEPError) as caught:
        ex.submit(hello).result(SOON_S)
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_an_unmapped_identity(site: Any) -> None:
    error = refusal(site, "stranger")
    assert error.code == "IDENTITY_NOT_MAPPED"


def test_a_mapped_account_that_does_not_exist(site: Any) -> None:
    assert refusal(site, "ghost").code == "ACCOUNT_UNKNOWN"


@pytest.mark.parametrize("user", ["mallory", "daemon"])
def test_root_and_low_uids_are_never_served(site: Any, user: str) -> None:
    assert refusal(site, user).code == "ACCOUNT_REFUSED"


def test_options_against_the_schema(site: Any) -> None:
    error = refusal(site, "alice", user_endpoint_config={"workers": 99})
    assert error.code == "OPTIONS_REFUSED"
    for part in ("/workers", "99", "maximum"):
        assert part in str(error)


def test_an_option_that_the_schema_does_not_know(site: Any) -> None:
    error = refusal(site, "alice", user_endpoint_config={"wokers": 1})
    assert error.code == "OPTIONS_REFUSED"
    assert "wokers" in str(error)


def test_a_template_that_renders_to_bad_yaml(site: Any) -> None:
    assert refusal(site, "alice", user_endpoint_config={"broken": True}).code == "TEMPLATE_FAILED"


def test_an_unknown_setting(site: Any) -> None:
    error = refusal(site, "alice", user_endpoint_config={"surprise": 1})
    assert error.code == "CONFIG_REFUSED"
    assert "no_such_setting" in str(error)


def test_an_unknown_engine(site: Any) -> None:
    error = refusal(site, "alice", user_endpoint_config={"engine": "GlobusComputeEngin"})
    assert "GlobusComputeEngine" in str(error)


def test_a_function_that_cannot_be_deserialized(site: Any) -> None:
    made = requests.post(
        f"{site.relay.url}/v3/functions",
        json={"function_name": "bad", "function_code": "9\n01\nbm90ZA", "serialized": True},
        headers={"Authorization": f"Bearer {site.relay.token('alice')}"},
        timeout=10,
    )
    fid = made.json()["function_uuid"]
    with site.executor("alice") as ex, pytest.raises(MEPError) as caught:
        ex.submit_to_registered_function(fid).result(SOON_S)
    assert caught.value.code == "DESERIALIZATION_FAILED"


def test_a_worker_that_is_killed(site: Any) -> None:
    def suicide() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    with site.executor("alice") as ex:
        with pytest.raises(MEPError) as caught:
            ex.submit(suicide).result(SOON_S)
        assert caught.value.code == "WORKER_LOST"
        assert "SIGKILL" in str(caught.value)
        assert os.uname().nodename in str(caught.value)
        assert ex.submit(hello).result(SOON_S) == "hello"


def test_a_payload_above_the_limit(site: Any) -> None:
    def size(data: bytes) -> int:
        return len(data)

    with site.executor("alice") as ex, pytest.raises(MEPError) as caught:
        ex.submit(size, b"x" * (11 * 1024 * 1024)).result(SOON_S)
    assert caught.value.code == "TASK_PAYLOAD_TOO_LARGE"


def test_a_result_above_the_limit(site: Any) -> None:
    def large() -> bytes:
        return b"x" * (11 * 1024 * 1024)

    with site.executor("alice") as ex, pytest.raises(MEPError) as caught:
        ex.submit(large).result(SOON_S)
    assert caught.value.code == "RESULT_TOO_LARGE"
    assert "kept at the site in " in str(caught.value)


def test_an_unknown_endpoint(site: Any) -> None:
    ex = Executor(str(uuid.uuid4()), client=site.relay.client("alice"))
    with ex, pytest.raises(MEPError) as caught:
        ex.submit(hello).result(SOON_S)
    assert caught.value.code == "ENDPOINT_NOT_FOUND"


def test_a_bad_token(site: Any) -> None:
    ex = Executor(site.endpoint_id, client=Client(relay_url=site.relay.url, token="nonsense"))
    with ex, pytest.raises(MEPError) as caught:
        ex.submit(hello).result(SOON_S)
    assert "mep login" in str(caught.value)


def test_somebody_else_s_function(site: Any) -> None:
    fid = site.relay.client("alice").register_function(hello)
    with site.executor("bob") as ex, pytest.raises(MEPError) as caught:
        ex.submit_to_registered_function(fid).result(SOON_S)
    assert caught.value.code in {"FUNCTION_ACCESS_FORBIDDEN", "FUNCTION_NOT_FOUND"}


def test_a_home_that_is_missing(site: Any, session_accounts: Callable[[str], Any]) -> None:
    account = session_accounts("homeless")
    Path(account.pw_dir).rename(account.pw_dir + ".away")
    try:
        site.accounts["homeless"] = account.pw_name
        remap(site)
        error = refusal(site, "homeless")
    finally:
        Path(account.pw_dir + ".away").rename(account.pw_dir)
    assert error.code == "START_FAILED"
    assert "home" in str(error)


def test_an_invalid_mapping_keeps_the_old_one(site: Any) -> None:
    target = site.etc / "identity_mapping.json"
    good = target.read_text()
    try:
        target.write_text('[{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [{]')
        with site.executor("alice", user_endpoint_config={"tag": "old mapping"}) as ex:
            assert ex.submit(hello).result(SOON_S) == "hello"
        broken = [
            {
                "DATA_TYPE": "expression_identity_mapping#1.0.0",
                "mappings": [{"source": "{username}", "match": "(", "output": "root"}],
            }
        ]
        target.write_text(json.dumps(broken))
        with site.executor("alice", user_endpoint_config={"tag": "old mapping 2"}) as ex:
            assert ex.submit(hello).result(SOON_S) == "hello"
        audit = (site.prefix / "var/log/mep-warden" / site.name / "audit.log").read_text()
        assert "mappings[0].match" in audit
    finally:
        target.write_text(good)


def test_a_new_mapping_is_applied(site: Any, session_accounts: Callable[[str], Any]) -> None:
    assert refusal(site, "newcomer").code == "IDENTITY_NOT_MAPPED"
    site.accounts["newcomer"] = session_accounts("newcomer").pw_name
    remap(site)
    with site.executor("newcomer") as ex:
        assert ex.submit(hello).result(SOON_S) == "hello"


def remap(site: Any) -> None:
    site.map(
        *[
            {"source": "{username}", "match": f"{user}@example\\.edu", "output": account}
            for user, account in site.accounts.items()
        ]
    )


def test_a_cancelled_task_ends(site: Any) -> None:
    def forever(path: str) -> None:
        import pathlib
        import threading

        pathlib.Path(path).touch()
        threading.Event().wait()

    account_home = Path("/home") / site.accounts["bob"]
    flag = account_home / f"started-{uuid.uuid4().hex}"
    with site.executor("bob", user_endpoint_config={"tag": "cancel"}) as ex:
        future = ex.submit(forever, str(flag))
        until(flag.exists, "the task started")
        future.cancel()
        with pytest.raises((concurrent.futures.CancelledError, MEPError)):
            future.result(SOON_S)
        assert ex.submit(hello).result(SOON_S) == "hello"


def test_signals_reach_nobody_else(site: Any) -> None:
    """One user's task can neither signal nor inspect another's endpoint."""
    with site.executor("bob") as ex:
        ex.submit(hello).result(SOON_S)
    victim = next(
        item["pid"] for item in site.user_endpoints() if item["account"] == site.accounts["bob"]
    )

    def attack(pid: int) -> list[str]:
        import os
        import pathlib

        failures = []
        for attempt in (
            lambda: os.kill(pid, 0),
            lambda: pathlib.Path(f"/proc/{pid}/environ").read_bytes(),
            lambda: os.listdir(f"/proc/{pid}/fd"),
        ):
            try:
                attempt()
            except PermissionError:
                failures.append("refused")
        return failures

    with site.executor("alice") as ex:
        assert ex.submit(attack, victim).result(SOON_S) == ["refused"] * 3
