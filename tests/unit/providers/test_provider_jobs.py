"""When a job counts as ended: never for want of an answer, never for one answer that is behind."""

import pytest

from mep.endpoint.providers.jobs import GONE, NEVER_LISTED_S, REMEMBERED, Jobs, Seen


@pytest.fixture
def jobs():
    jobs = Jobs(nodes=2)
    jobs.submitting("0", 0.0)
    jobs.submitted("0", "12", 1.0)
    return jobs


def states(jobs):
    return {state.block_id: state.state for state in jobs.states()}


def test_a_job_waits_runs_and_ends(jobs):
    assert states(jobs) == {"0": "pending"}
    assert jobs.answered({"12": Seen("running", "R")}, 5.0) == []
    assert jobs.answered({"12": Seen("running", "R")}, 6.0) == []
    (state,) = jobs.states()
    assert (state.state, state.since, state.job_id, state.nodes) == ("running", 5.0, "12", 2)
    assert jobs.answered({"12": Seen("ended", "TIMEOUT")}, 9.0) == [("0", "TIMEOUT")]


def test_no_answer_ends_nothing(jobs):
    jobs.answered({"12": Seen("running", "R")}, 2.0)
    for at in range(1000):
        jobs.unanswered(float(at))
    assert states(jobs) == {"0": "unknown"}
    jobs.answered({"12": Seen("running", "R")}, 2000.0)
    assert states(jobs) == {"0": "running"}


def test_one_answer_without_a_job_does_not_end_it(jobs):
    jobs.answered({"12": Seen("running", "R")}, 2.0)
    assert jobs.answered({"12": Seen("missing")}, 3.0) == []
    assert jobs.answered({"12": Seen("running", "R")}, 4.0) == []
    assert jobs.answered({"12": Seen("missing")}, 5.0) == []
    assert jobs.answered({"12": Seen("missing")}, 6.0) == [("0", GONE)]


def test_a_job_that_accounting_has_not_heard_of_yet(jobs):
    for at in range(2, int(NEVER_LISTED_S)):
        assert jobs.answered({"12": Seen("missing")}, float(at)) == []
    late = 1.0 + NEVER_LISTED_S
    assert jobs.answered({"12": Seen("missing")}, late) == []
    assert jobs.answered({"12": Seen("missing")}, late + 1) == [("0", GONE)]


def test_a_job_whose_script_left_word_of_its_end_needs_one_answer(jobs):
    seen = Seen("missing", "its script ended with status 3", marked=True)
    assert jobs.answered({"12": seen}, 2.0) == [("0", "its script ended with status 3")]


def test_an_answer_about_others_says_nothing_of_a_job(jobs):
    assert jobs.answered({"13": Seen("ended", "x")}, 2.0) == []


def test_a_job_that_is_being_ended_says_so_until_it_has(jobs):
    jobs.ending("0", 2.0)
    jobs.answered({"12": Seen("running", "CG")}, 3.0)
    jobs.unanswered(4.0)
    assert states(jobs) == {"0": "ending"}


def reason_of(jobs):
    (state,) = jobs.states()
    return state.reason


def test_nobody_asks_why_a_young_job_waits(jobs):
    assert jobs.waiting() == []
    jobs.answered({"12": Seen("pending", "PD")}, 2.0)
    assert jobs.waiting() == []
    jobs.answered({"12": Seen("pending", "PD")}, 3.0)
    assert jobs.waiting() == ["12"]
    jobs.unanswered(4.0)
    assert jobs.waiting() == []
    jobs.answered({"12": Seen("running", "R")}, 5.0)
    assert jobs.waiting() == []


def test_an_ordinary_reason_is_shown_and_ends_nothing(jobs):
    for at in range(100):
        jobs.answered({"12": Seen("pending", "PD")}, float(at))
        assert jobs.explained({"12": "Priority"}) == []
    assert reason_of(jobs) == "Priority"
    jobs.unanswered(100.0)
    assert reason_of(jobs) == ""
    jobs.answered({"12": Seen("running", "R")}, 101.0)
    assert reason_of(jobs) == ""


def test_a_reason_that_never_passes_ends_a_job_when_it_is_seen_twice(jobs):
    jobs.answered({"12": Seen("pending", "PD")}, 2.0)
    assert jobs.explained({"12": "PartitionDown"}) == []
    assert reason_of(jobs) == "PartitionDown"
    assert jobs.explained({}) == []
    assert reason_of(jobs) == "PartitionDown"
    assert jobs.explained({"12": "PartitionDown"}) == [("0", "PartitionDown")]


def test_a_reason_that_never_passes_and_does(jobs):
    assert jobs.explained({"12": "PartitionDown"}) == []
    assert jobs.explained({"12": "Resources"}) == []
    assert jobs.explained({"12": "PartitionDown"}) == []
    jobs.answered({"12": Seen("running", "R")}, 3.0)
    jobs.answered({"12": Seen("pending", "PD")}, 4.0)
    assert jobs.explained({"12": "PartitionDown"}) == []


def test_a_job_without_an_id_is_not_asked_for():
    jobs = Jobs(nodes=1)
    jobs.submitting("0", 0.0)
    assert jobs.to_ask() == []
    jobs.unanswered(1.0)
    assert states(jobs) == {"0": "submitting"}


def test_a_job_of_an_earlier_process_is_unknown_at_first():
    jobs = Jobs(nodes=1)
    jobs.found("7", "99", submitted=10.0, now=500.0)
    assert states(jobs) == {"7": "unknown"}
    assert jobs.to_ask() == ["99"]


def test_the_last_few_that_ended_are_remembered():
    jobs = Jobs(nodes=1)
    for number in range(REMEMBERED + 3):
        jobs.submitting(str(number), 0.0)
        jobs.ended(str(number), f"why {number}", 1.0)
    told = [(state.block_id, state.state, state.why) for state in jobs.states()]
    assert told[0] == ("3", "ended", "why 3")
    assert len(told) == REMEMBERED
    assert len(jobs) == 0
