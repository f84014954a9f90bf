"""One SDK stream: store first, then live; bounded; nothing lost or doubled in between."""

import asyncio
from collections import Counter
from typing import Any, cast

from mep_cloud.delivery.streams import WINDOW_RESULTS, Stream
from mep_cloud.publisher import Publisher, Subscriber
from mep_cloud.store.records import Delivered

from mep.wire import limits
from mep.wire.tasks import Result


def delivered(seq: int, size: int = 1) -> Delivered:
    return Delivered(seq, Result(f"t{seq}", "success", b"x" * size))


def ids(results: tuple[Result, ...]) -> list[str]:
    return [result.task_id for result in results]


def live_stream() -> Stream:
    stream = Stream()
    stream.subscribe("g")
    assert stream.next_read() == ("g", 0)
    assert stream.read("g", [], more=False) == ()
    return stream


def test_store_first_then_live() -> None:
    stream = Stream()
    stream.subscribe("g")
    stream.publish("g", delivered(2))  # on disk, so the read finds it
    assert stream.take() == ()
    assert stream.next_read() == ("g", 0)
    assert ids(stream.read("g", [delivered(1), delivered(2)], more=False)) == ["t1", "t2"]
    assert stream.next_read() is None
    stream.publish("g", delivered(3))
    assert ids(stream.take()) == ["t3"]
    assert not stream.pending


def test_a_result_committed_during_the_read_is_read_next() -> None:
    stream = Stream()
    stream.subscribe("g")
    stream.next_read()
    stream.publish("g", delivered(2))
    assert ids(stream.read("g", [delivered(1)], more=False)) == ["t1"]
    assert stream.next_read() == ("g", 1)
    assert ids(stream.read("g", [delivered(2)], more=False)) == ["t2"]
    assert not stream.pending


def test_pages() -> None:
    stream = Stream()
    stream.subscribe("g")
    stream.next_read()
    stream.read("g", [delivered(5)], more=True)
    assert stream.next_read() == ("g", 5)


def test_a_slow_reader_goes_back_to_the_store() -> None:
    stream = live_stream()
    for seq in range(1, WINDOW_RESULTS + 10):
        stream.publish("g", delivered(seq))
    taken: list[str] = []
    while batch := stream.take():
        assert len(batch) <= limits.BATCH_TASKS
        taken += ids(batch)
    assert len(taken) == WINDOW_RESULTS
    assert stream.next_read() == ("g", WINDOW_RESULTS)


def test_the_window_counts_bytes() -> None:
    stream = live_stream()
    for seq in range(1, 5):
        stream.publish("g", delivered(seq, limits.BATCH_BYTES))
    assert ids(stream.take()) == ["t1"]
    assert ids(stream.take()) == ["t2"]
    assert stream.take() == ()
    assert stream.next_read() == ("g", 2)


def test_one_huge_result_is_sent_alone() -> None:
    stream = live_stream()
    stream.publish("g", delivered(1, limits.PAYLOAD))
    assert ids(stream.take()) == ["t1"]


def test_unsubscribed_groups_send_nothing() -> None:
    stream = live_stream()
    stream.publish("g", delivered(1))
    stream.publish("other", delivered(2))
    stream.unsubscribe("g")
    stream.unsubscribe("never")
    assert stream.take() == ()
    assert stream.read("g", [delivered(3)], more=False) == ()
    assert not stream.pending


class Shelf:
    """Results of one group in the order of commits, as the store has them."""

    def __init__(self) -> None:
        self.results: list[Delivered] = []

    async def unacknowledged(self, _group_id: str, after: int) -> tuple[list[Delivered], bool]:
        return [each for each in self.results if each.seq > after], False


class Shelves:
    """As the store has them of several groups; counts what is read."""

    def __init__(self) -> None:
        self.results: dict[str, list[Delivered]] = {}
        self.reads: Counter[str] = Counter()

    async def unacknowledged(self, group_id: str, after: int) -> tuple[list[Delivered], bool]:
        self.reads[group_id] += 1
        return [each for each in self.results.get(group_id, []) if each.seq > after], False


class Wire:
    """An outbox that sends when the test says."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.sent: list[str] = []

    def put(self, item: Any) -> None:
        self.items.append(item)

    async def send_all(self) -> None:
        while self.items:
            frame = await self.items.pop(0)()
            if frame is not None:
                self.sent += ids(frame.results)


def test_a_result_of_another_process_is_not_passed_by_a_later_one_of_this() -> None:
    """Its note may come after this process has committed the next."""

    async def flow() -> None:
        shelf, wire, publisher = Shelf(), Wire(), Publisher()
        subscriber: Any = Subscriber(cast("Any", wire), cast("Any", shelf))
        publisher.subscribe(subscriber, "g")
        await wire.send_all()
        for seq in (1, 2, 4):
            shelf.results.append(delivered(seq))
            if seq == 4:
                shelf.results.insert(-1, delivered(3))
            publisher.result("g", delivered(seq))
            await wire.send_all()
        publisher.elsewhere(["g", "not streamed"])
        await wire.send_all()
        assert wire.sent == ["t1", "t2", "t3", "t4"]

    asyncio.run(flow())


def test_another_process_at_work_makes_nobody_read_all_groups_again() -> None:
    """What it commits is announced group by group; a place of its own may be before this one's."""

    async def flow() -> None:
        shelves, wire, publisher = Shelves(), Wire(), Publisher()
        groups = [f"g{number}" for number in range(20)]
        for group in groups:
            subscriber: Any = Subscriber(cast("Any", wire), cast("Any", shelves))
            publisher.subscribe(subscriber, group)
        await wire.send_all()
        assert shelves.reads == dict.fromkeys(groups, 1)
        for seq in range(1, 40, 2):  # the others are somebody else's
            shelves.results.setdefault("g0", []).append(delivered(seq))
            publisher.result("g0", delivered(seq))
            await wire.send_all()
        assert {shelves.reads[group] for group in groups[1:]} == {1}
        # One that was committed before those of g0, to a group that had none here since.
        shelves.results["g1"] = [delivered(2), delivered(41)]
        publisher.result("g1", delivered(41))
        await wire.send_all()
        publisher.elsewhere(["g1"])
        await wire.send_all()
        shelves.results["g2"] = [delivered(42)]
        publisher.result("g2", delivered(42))
        await wire.send_all()
        assert wire.sent == [f"t{seq}" for seq in (*range(1, 40, 2), 2, 41, 42)]

    asyncio.run(flow())


def test_a_group_that_another_process_wrote_to_is_read_again() -> None:
    stream = live_stream()
    stream.refresh("g")
    stream.refresh("unknown")
    stream.publish("g", delivered(2))
    assert stream.take() == ()
    assert stream.next_read() == ("g", 0)
    stream.refresh("g")
    assert ids(stream.read("g", [delivered(1), delivered(2)], more=False)) == ["t1", "t2"]
    assert stream.next_read() == ("g", 2)
    assert stream.read("g", [], more=False) == ()
    assert stream.next_read() is None
