"""One SDK stream: store first, then live; bounded; nothing lost or doubled in between."""

import asyncio
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
