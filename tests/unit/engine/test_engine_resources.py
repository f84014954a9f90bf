"""What a task may ask of an engine that gives each task one worker."""

import pytest

from mep.endpoint.engines.resources import ResourcesError, read, sort_out
from mep.endpoint.interchange.request import Request
from mep.wire.tasks import Task


@pytest.mark.parametrize("specification", [b"", b" ", b"{}", b"null"])
def test_nothing_asked(specification):
    assert read(specification) is None


@pytest.mark.parametrize(("text", "priority"), [(b"0", 0), (b"-3", -3), (b"2.5", 2.5)])
def test_a_priority(text, priority):
    assert read(b'{"priority": %s}' % text) == Request(priority=priority)


@pytest.mark.parametrize(
    ("specification", "part"),
    [
        (b'{"num_nodes": 2}', "This one has num_nodes: leave the rest out"),
        (b'{"priority": 1, "ranks_per_node": 2, "cores": 1}', "cores, ranks_per_node"),
        (b'{"priority": NaN}', "cannot be read"),
        (b"[1]", "as a mapping"),
        (b"3", "as a mapping"),
        (b"{", "cannot be read"),
        (b"[" * 10_000, "cannot be read"),
        (b'{"\xff": 1}', "cannot be read"),
    ],
)
def test_anything_else_is_refused_with_what_is_accepted(specification, part):
    with pytest.raises(ResourcesError) as caught:
        read(specification)
    assert part in str(caught.value)
    assert "priority, a number (lower runs first" in str(caught.value)


@pytest.mark.parametrize("given", [b'"high"', b"true", b"[1]"])
def test_a_priority_that_is_no_number_is_named(given):
    with pytest.raises(ResourcesError, match="priority of the resource_specification must be a nu"):
        read(b'{"priority": %s}' % given)


def test_tasks_are_sorted_out():
    plain = Task("a", "f", "g", b"")
    asking = Task("b", "f", "g", b"", b'{"priority": 4}')
    greedy = Task("c", "f", "g", b"", b'{"num_nodes": 4}')
    found = sort_out([plain, asking, greedy], read)
    assert found.good == [plain, asking]
    assert found.requests == {"b": Request(priority=4)}
    ((task, why),) = found.refused
    assert task == greedy
    assert "MPI" in why
