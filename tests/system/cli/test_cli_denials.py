"""`mep audit` and `mep why-denied` of a site that runs: who was let in, and who was not."""

import json

import pytest
from mep_sdk import Client, Executor

pytestmark = pytest.mark.root


def test_who_was_let_in_and_who_was_not(registered, etc, session_accounts, relay):
    account = session_accounts("alice")
    rule = {"source": "{username}", "match": "audit-alice@example\\.edu", "output": account.pw_name}
    evil = {"source": "{username}", "match": "audit-mallory@example\\.edu", "output": "root"}
    kind = "expression_identity_mapping#1.0.0"
    document = {"DATA_TYPE": kind, "mappings": [rule, evil]}
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    process = registered.begin("start", "test", "--json")
    endpoint_id = json.loads(process.stdout.readline())["endpoint_id"]
    alice = Client(relay.url, relay.token("audit-alice"))
    with Executor(endpoint_id, client=alice) as executor:
        future = executor.submit(pow, 2, 5)
        assert future.result(60) == 32
        task_id = future.task_id
        assert list(executor.map(abs, range(500))) == list(range(500))
    mallory = Client(relay.url, relay.token("audit-mallory"))
    with Executor(endpoint_id, client=mallory) as executor, pytest.raises(Exception) as caught:
        refused_future = executor.submit(pow, 2, 5)
        refused_future.result(60)
    reference = str(caught.value).partition("Reference for the administrator: ")[2][:8]
    assert len(reference) == 8
    alice.close()
    mallory.close()
    registered("stop", "test")

    def audit(*arguments):
        said = registered("audit", "test", "--json", *arguments)
        return [json.loads(line) for line in said.splitlines()]

    events = [one["event"] for one in audit("--task", task_id)]
    assert events == ["RECEIVED", "EXEC_START", "RUNNING", "EXEC_END"]
    (running,) = [one for one in audit("--task", task_id) if one["event"] == "RUNNING"]
    assert (running["account"], running["uid"]) == (account.pw_name, account.pw_uid)
    assert running["block_id"]
    assert running["endpoint_id"] == endpoint_id
    assert running["function_id"]
    mine = audit("--identity", "audit-alice@example.edu")
    for event in ("RECEIVED", "EXEC_START", "RUNNING", "EXEC_END"):
        tasks = [one["task_id"] for one in mine if one["event"] == event]
        assert len(tasks) == len(set(tasks)) == 501, event
    assert [one["event"] for one in mine][:3] == ["start-asked", "mapped", "started"]
    assert {one["event"] for one in mine} >= {"up", "EXEC_END", "stopping", "exited"}
    (refused,) = audit("--refused")
    assert (refused["code"], refused["reference"]) == ("ACCOUNT_REFUSED", reference)
    assert refused["identities"][0]["username"] == "audit-mallory@example.edu"
    assert refused["account"] == "root", "as whom she was mapped"

    for what in ("audit-mallory@example.edu", reference, refused_future.task_id):
        said = registered("why-denied", "test", what)
        assert "ACCOUNT_REFUSED: audit-mallory@example.edu" in said
        assert "account 'root'" in said
        assert "policy.toml" in said
    done = registered.try_("why-denied", "test", task_id, "--json")
    assert (done.returncode, json.loads(done.stdout)["denials"]) == (1, [])


def test_a_function_is_pinned_to_its_body(registered, etc, session_accounts, relay):
    """What `mep functions --pin` prints is what the endpoint finds; another hash is refused."""
    account = session_accounts("alice")
    rule = {"source": "{username}", "match": "pin-alice@example\\.edu", "output": account.pw_name}
    kind = "expression_identity_mapping#1.0.0"
    document = {"DATA_TYPE": kind, "mappings": [rule]}
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    token = relay.token("pin-alice")
    client = Client(relay.url, token)
    function_id = client.register_function(pow)
    whose = {"MEP_RELAY_URL": relay.url, "MEP_TOKEN": token}
    pinned = registered("functions", "--pin", function_id, **whose).strip()
    assert pinned.startswith(f"{function_id}@")
    settings = (etc / "config.yaml").read_text()
    other = f"{function_id}@{'0' * 64}"
    for entry in (pinned, other):
        (etc / "config.yaml").write_text(f"{settings}\nallowed_functions: ['{entry}']\n")
        process = registered.begin("start", "test", "--json")
        endpoint_id = json.loads(process.stdout.readline())["endpoint_id"]
        with Executor(endpoint_id, client=client) as executor:
            future = executor.submit_to_registered_function(function_id, args=(2, 5))
            if entry == pinned:
                assert future.result(60) == 32
            else:
                with pytest.raises(Exception, match="with another body alone"):
                    future.result(60)
        registered("stop", "test")
        process.communicate(timeout=60)
    client.close()
    said = json.loads(registered("why-denied", "test", future.task_id, "--json"))
    (denial,) = said["denials"]
    assert (denial["code"], denial["record"]["function_id"]) == (
        "FUNCTION_NOT_PERMITTED",
        function_id,
    )
    assert "allowed_functions" in denial["remedy"]
