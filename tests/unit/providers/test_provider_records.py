"""Job ids on disk."""

import pytest

from mep.endpoint.providers.records import KEPT, MARK, Record, Records


@pytest.fixture
def records(tmp_path):
    (tmp_path / "blocks").mkdir()
    return Records(str(tmp_path))


def record(block_id, job_id="12"):
    return Record(block_id, "SlurmProvider", "f", 1.0, job_id, {"job_stderr_path": "/x"})


def test_a_record_outlives_its_process(records, tmp_path):
    records.write(record("0", ""))
    records.write(record("0"))
    assert Records(str(tmp_path)).all() == [record("0")]
    path = tmp_path / "blocks/0/job.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["job.json"]


def test_a_record_that_is_damaged_is_dropped(records, tmp_path):
    records.write(record("0"))
    (tmp_path / "blocks/0/job.json").write_text("{")
    assert records.all() == []
    assert not (tmp_path / "blocks/0/job.json").exists()


def test_what_a_job_wrote_stays_for_a_while(records, tmp_path):
    for number in range(KEPT + 5):
        records.write(record(str(number)))
        (tmp_path / f"blocks/{number}/x.stderr").write_text(f"error {number}\n")
    for number in range(KEPT + 5):
        records.drop(str(number))
    left = sorted(int(path.name) for path in (tmp_path / "blocks").iterdir())
    assert left == list(range(5, KEPT + 5))
    assert records.tail("7") == "error 7"
    assert records.all() == []


def test_the_directory_of_a_job_that_may_run_is_never_removed(records, tmp_path):
    records.write(record("0"))
    for number in range(1, KEPT + 5):
        records.write(record(str(number)))
        records.drop(str(number))
    assert [one.block_id for one in records.all()] == ["0"]


def test_the_tail_of_stderr_else_of_stdout(records, tmp_path):
    directory = records.directory("0")
    assert records.tail("0") == ""
    (directory / "a.stdout").write_text("out")
    assert records.tail("0") == "out"
    (directory / "a.stderr").write_bytes(b"x" * 9000 + b"\xff end\n")
    assert len(records.tail("0")) <= 4096
    assert records.tail("0").endswith("end")


def test_the_word_that_a_script_leaves(records):
    assert records.mark("0") is None
    (records.directory("0") / MARK).write_text("status 3\n")
    assert records.mark("0") == "status 3"
