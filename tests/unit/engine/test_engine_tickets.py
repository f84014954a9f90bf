"""Tickets, and how tasks are shared out."""

import os

import pytest

from mep.worker.crew import shares
from mep.worker.tickets import Tickets, claim


def test_a_number_is_handed_out_once():
    tickets = Tickets()
    tickets.issue(7, [40, 42, 43, 44, 45])
    assert [claim(tickets.reader), claim(tickets.reader)] == [(7, 40), (8, 42)]
    assert tickets.take_back() == {9, 10, 11}
    assert tickets.take_back() == set()
    tickets.issue(12, [43])
    assert claim(tickets.reader) == (12, 43)
    tickets.close()


def test_a_worker_notices_the_end_of_the_pool():
    tickets = Tickets()
    worker = os.dup(tickets.reader)
    tickets.handed_over()
    tickets.issue(3, [9])
    tickets.close()
    assert [claim(worker), claim(worker)] == [(3, 9), None]
    os.close(worker)


@pytest.mark.parametrize(
    ("rooms", "count", "given"),
    [
        ([4, 4], 4, [2, 2]),
        ([16, 16], 1, [1, 0]),
        ([16, 2, 1], 19, [16, 2, 1]),
        ([5, 1], 4, [3, 1]),
        ([3], 0, [0]),
    ],
)
def test_tasks_are_shared_evenly_where_there_is_room(rooms, count, given):
    assert shares(rooms, count) == given
