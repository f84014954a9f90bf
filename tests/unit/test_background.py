"""Errands on threads of their own."""

import threading

from mep.background import Threads

WAIT_S = 30.0


def threads(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == name]


def test_so_many_at_a_time_and_in_order() -> None:
    two = Threads("two-at-a-time", 2)
    meeting, done = threading.Barrier(2), []
    over = threading.Semaphore(0)

    def meet() -> None:
        meeting.wait(WAIT_S)
        over.release()

    def note(number: int) -> None:
        done.append(number)
        over.release()

    for _ in range(2):
        two.do(meet)
    assert all(over.acquire(timeout=WAIT_S) for _ in range(2))
    assert len(threads("two-at-a-time")) == 2
    one = Threads("one-at-a-time", 1)
    for number in range(5):
        one.do(lambda number=number: note(number))
    assert all(over.acquire(timeout=WAIT_S) for _ in range(5))
    assert done == [0, 1, 2, 3, 4]
    one.end()
    two.end()


def test_threads_end_after_what_was_asked_and_come_again() -> None:
    errands = Threads("that-ends", 2)
    done: list[int] = []
    for number in range(4):
        errands.do(lambda number=number: done.append(number))
    errands.end()
    for thread in threads("that-ends"):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert sorted(done) == [0, 1, 2, 3]
    again = threading.Event()
    errands.do(again.set)
    assert again.wait(WAIT_S)
    errands.end()
