"""A result above the limit is kept as a file of the user's, and the failure says where."""

import stat
from pathlib import Path

from mep import payload
from mep.endpoint.private_file import keep_result
from mep.worker.execute import Call, Terms, returned


def terms(directory: Path, size: int = 100) -> Terms:
    return Terms(result=size, text=1000, message=2000, keep=str(directory))


def call(task_id: str = "task-1") -> Call:
    return Call(task_id, "f", {}, payload.dump_arguments((), {}))


def test_a_worker_keeps_what_it_may_not_send(tmp_path: Path) -> None:
    directory = tmp_path / "results"
    value = b"x" * 1000
    for _ in range(2):  # the second try of a task replaces the file of the first
        fields, pieces = returned(call(), value, 0.0, terms(directory))
        assert (fields[1], fields[2], list(pieces)) == ("failed", "RESULT_TOO_LARGE", [])
        assert str(directory / "task-1") in fields[3]
    kept = directory / "task-1"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert payload.load_result(kept.read_bytes()) == value


def test_a_link_in_the_file_s_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "task-1").symlink_to(victim)
    returned(call(), b"x" * 1000, 0.0, terms(tmp_path))
    assert victim.read_text() == "mine"
    assert not (tmp_path / "task-1").is_symlink()


def test_where_nothing_can_be_kept_the_failure_says_so(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    fields, _ = returned(call(), b"x" * 1000, 0.0, terms(tmp_path / "results"))
    assert fields[2] == "RESULT_TOO_LARGE"
    assert "could not be kept" in fields[3]
    assert "could not be kept" in keep_result(tmp_path, "task-1", b"x")


def test_what_fits_is_not_kept(tmp_path: Path) -> None:
    fields, _ = returned(call(), 1, 0.0, terms(tmp_path / "results"))
    assert fields[1] == "success"
    assert not (tmp_path / "results").exists()


def test_the_endpoint_keeps_what_its_relay_does_not_take(tmp_path: Path) -> None:
    said = keep_result(tmp_path, "task-1", b"serialized")
    kept = tmp_path / "results" / "task-1"
    assert str(kept) in said
    assert kept.read_bytes() == b"serialized"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
