"""Tasks through a real relay, with fakes of manager, user endpoint and SDK at the edge."""

import asyncio
import json
import uuid
from typing import Any

from relay_driver import FakeEndpoint, FakeManager, FakeSdk, kept

from mep.wire import to_manager


async def submit(api: Any, *arguments: Any, **fields: Any) -> dict[str, Any]:
    return await asyncio.to_thread(api.submit, *arguments, **fields)


def test_cold_start_and_results(running: Any) -> None:
    async def flow() -> None:
        registered = running.admin.endpoint()
        function_id = running.alice.function()
        group = str(uuid.uuid4())
        manager = FakeManager(running.url, registered)
        sdk = FakeSdk(running.url, running.alice.token, (group,))
        async with kept(manager.link), kept(sdk.link):
            answer = await submit(
                running.alice,
                registered["endpoint_id"],
                function_id,
                ["a", "b", "c"],
                task_group_id=group,
                user_endpoint_config={"WALLTIME": "1"},
                user_runtime={"python_version": "3.11.2 (main)"},
            )
            ids = answer["tasks"][function_id]
            assert answer["task_group_id"] == group
            assert len(set(ids)) == 3
            start = await manager.next_start()
            assert start.options == b'{"WALLTIME":"1"}'
            identity = json.loads(start.grant)["identities"][0]
            assert identity["username"] == "alice@example.org"
            assert identity["status"] == "used"
            await manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 4711))
            endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                await sdk.until(lambda: len(sdk.results) == 3)
                assert [sdk.results[each].payload for each in ids] == [b"a", b"b", b"c"]
                assert endpoint.functions == [function_id]
                more = await submit(
                    running.alice,
                    registered["endpoint_id"],
                    function_id,
                    ["d"],
                    task_group_id=group,
                    user_endpoint_config={"WALLTIME": "1"},
                    user_runtime={"python_version": "3.11.9"},
                )
                (last,) = more["tasks"][function_id]
                await sdk.until(lambda: last in sdk.results)
                assert endpoint.functions == [function_id]
                assert manager.starts.empty()
        status = running.alice.ok("GET", f"/v2/tasks/{ids[0]}")
        assert status["status"] == "success"
        assert status["result"] == "a"
        assert float(status["completion_t"]) > 0
        listed = running.alice.ok("GET", f"/v2/taskgroup/{group}")
        assert [each["id"] for each in listed["tasks"]] == [*ids, last]

    asyncio.run(flow())
