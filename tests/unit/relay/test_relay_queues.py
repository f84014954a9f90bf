"""Room in an endpoint's queue: what is being committed takes it, and gives it back."""

import pytest
from mep_cloud.errors import Refusal
from mep_cloud.queues import Queues


def refused(queues: Queues, unfinished: int, count: int) -> int:
    with pytest.raises(Refusal) as refusal, queues.room("e", unfinished, count):
        raise AssertionError("there is no room")
    assert refusal.value.code == "QUEUE_FULL"
    return refusal.value.status


def test_what_is_being_committed_takes_room() -> None:
    queues = Queues(10)
    with queues.room("e", 3, 5):
        assert refused(queues, 3, 3) == 429
        with queues.room("e", 3, 2), queues.room("other", 0, 10):
            assert refused(queues, 3, 1) == 429
    with queues.room("e", 3, 7):
        assert refused(queues, 3, 1) == 429


def test_room_comes_back_when_nothing_was_committed() -> None:
    queues = Queues(10)
    with pytest.raises(ValueError, match="x"), queues.room("e", 0, 10):
        raise ValueError("x")
    with queues.room("e", 0, 10):
        assert refused(queues, 0, 11) == 422


def test_no_bound() -> None:
    queues = Queues(0)
    with queues.room("e", 10**9, 10**9), queues.room("e", 10**9, 1):
        assert refused(Queues(1), 0, 2) == 422
