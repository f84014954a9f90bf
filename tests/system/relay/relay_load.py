"""Many tasks through a relay that is being damaged, and what must be true at the end."""

import asyncio
import random
import threading
import uuid
from typing import Any

import msgspec
import requests
from relay_driver import Api, FakeEndpoint, FakeSdk

BATCH = 100
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
AGAIN = (502, 503)
"""Statuses of a relay, or of what is before it, that restarts."""
CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""What a relay that is killed leaves: no answer, or the head of one."""


class Submitter(threading.Thread):
    """Submits every batch until it is answered; each names itself, so a repetition does no harm."""

    def __init__(
        self, api: Api, endpoint_id: str, function: str, group: str, *, tasks: int
    ) -> None:
        super().__init__(daemon=True)
        self.payloads: dict[str, bytes] = {}
        self.repeated = 0
        self.stopped = threading.Event()
        self.back = threading.Event()
        self.error: BaseException | None = None
        self._path = f"/v3/endpoints/{endpoint_id}/submit"
        self._api = api
        self._function = function
        self._group = group
        self._tasks = tasks

    def run(self) -> None:
        try:
            for first in range(0, self._tasks, BATCH):
                self._submit([b"%d" % number for number in range(first, first + BATCH)])
        except BaseException as error:
            self.error = error
            raise

    def _submit(self, payloads: list[bytes]) -> None:
        body = {
            "tasks": {self._function: payloads},
            "task_group_id": self._group,
            "request_id": str(uuid.uuid4()),
        }
        data = msgspec.msgpack.encode(body)
        while not self.stopped.is_set():
            try:
                answer = self._api("POST", self._path, data=data, headers=MSGPACK)
            except CUT:
                answer = None
            if answer is None or answer.status_code in AGAIN:
                self.repeated += 1
                self.back.wait(1)
                continue
            assert answer.status_code == 200, answer.text
            ids = msgspec.msgpack.decode(answer.content)["tasks"][self._function]
            self.payloads.update(zip(ids, payloads, strict=True))
            return


async def check(
    alice: Api, submitter: Submitter, endpoint: FakeEndpoint, sdk: FakeSdk, group: str
) -> None:
    """Everything that was accepted ran once and has its own result; nothing else is there."""
    assert submitter.error is None
    assert {each: result.payload for each, result in sdk.results.items()} == submitter.payloads
    assert set(endpoint.runs) == set(submitter.payloads)
    assert set(endpoint.runs.values()) == {1}
    listed = await asyncio.to_thread(alice.ok, "GET", f"/v2/taskgroup/{group}")
    assert sorted(each["id"] for each in listed["tasks"]) == sorted(submitter.payloads)
    # The relay's own word, on what it has on the disk.
    sample = random.Random(1).sample(sorted(submitter.payloads), 500)
    statuses: dict[str, Any] = await asyncio.to_thread(alice.results, sample)
    assert {each["status"] for each in statuses.values()} == {"success"}
