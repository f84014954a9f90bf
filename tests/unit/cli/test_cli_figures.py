"""What ``mep status`` says of users' endpoints."""

import json
import os
import pwd

import pytest

from mep.cli.figures import Block, Detail, Figures, figures, lines, printable

BLOCKS = [
    {"id": "0", "job_id": "12", "state": "running", "since": 40.0, "nodes": 4, "pools": 4,
     "workers": 8, "ends_at": 1000.0, "why": ""},
    {"id": "1", "job_id": "11", "state": "ended", "since": 90.0, "nodes": 4, "pools": 0,
     "workers": 0, "ends_at": None, "why": "ended with its job 11 (TIMEOUT)"},
]  # fmt: skip
STATUS = {
    "pid": 1,
    "updated": 99.0,
    "state": "running",
    "link": True,
    "waiting": 3,
    "running": 8,
    "workers": 8,
    "detail": {"blocks": BLOCKS, "node_pools": 4, "noise": 0},
}


@pytest.fixture
def status(tmp_path, monkeypatch):
    """Writes the status of endpoint ``e`` below a home directory of this account."""
    own = pwd.getpwuid(os.getuid())
    entry = pwd.struct_passwd((own[0], *own[1:5], str(tmp_path), own[6]))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)
    (tmp_path / ".mep/e").mkdir(parents=True)

    def write(text):
        (tmp_path / ".mep/e/status.json").write_text(text)
        return figures(own.pw_name, "e")

    return write


def test_blocks_with_their_jobs(status):
    said = status(json.dumps(STATUS))
    assert [block.job_id for block in said.detail.blocks] == ["12", "11"]
    assert lines(said, now=100.0) == [
        "tasks: 8 running, 3 waiting, 8 workers",
        "block 0, job 12: running for 1 min, 4 nodes, 4 pools, 8 workers, 15 min left",
        "block 1, job 11: ended for 10 s: it ended with its job 11 (TIMEOUT)",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"updated": "x"}', json.dumps({**STATUS, "detail": {"blocks": [1]}})],
)
def test_what_is_no_status_is_left_out(status, text):
    assert status(text) is None


def test_too_much_is_left_out(status):
    assert status(json.dumps({**STATUS, "state": "x" * 1_000_000})) is None


def test_a_status_that_is_not_there(status):
    assert figures(pwd.getpwuid(os.getuid()).pw_name, "e") is None


def test_a_block_that_waits_says_why():
    block = Block("0", "pending", 40.0, nodes=4, job_id="12", reason="PartitionDown")
    assert lines(Figures(99.0, detail=Detail((block,))), now=100.0)[1] == (
        "block 0, job 12: pending (PartitionDown) for 1 min, 4 nodes, 0 pools, 0 workers"
    )


def test_nothing_that_a_terminal_obeys_is_printed():
    block = Block("0", "ended", 0.0, why="\x1b[2Jgone\n")
    text = printable(lines(Figures(0.0, detail=Detail((block,))), 0.0)[1])
    assert text.isprintable()
    assert text.endswith("it ?[2Jgone?")
