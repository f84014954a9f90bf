import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mep.root import children, policy
from mep.root.children import Record
from mep.root.refusal import Refusal

POLICY = policy.parse("max_endpoints_per_user = 2\nshared_accounts = ['project']")


@pytest.fixture
def living() -> Iterator[int]:
    """The pid of a process that lives."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process.pid
    process.communicate()


def record(name: str, pid: int, *person: str, account: str = "alice", uid: int = 7) -> Record:
    return Record(name, pid, children.started(pid), 4711, uid, account, list(person))


def names(state: Path) -> list[str]:
    return sorted(one.user_endpoint_id for one in children.living(str(state)))


def test_a_record_is_kept_while_its_process_lives(tmp_path: Path, living: int) -> None:
    one = record("a", living, "p")
    children.claim(str(tmp_path), one, POLICY)
    assert children.living(str(tmp_path)) == [one]


def test_another_process_of_the_same_pid_is_another(tmp_path: Path, living: int) -> None:
    one = record("a", living, "p")
    children.claim(str(tmp_path), one._replace(started="another boot 1"), POLICY)
    assert names(tmp_path) == []


def test_records_of_the_dead_are_removed_and_nothing_else(tmp_path: Path, living: int) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        dead = record("dead", process.pid, "p")
    for one in (dead, record("alive", living, "p")):
        (tmp_path / one.user_endpoint_id).write_text(json.dumps(one))
    (tmp_path / "half").write_text('["x"')
    assert names(tmp_path) == ["alive"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive", "half"]


def test_a_process_that_ended_does_not_count(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        one = record("a", process.pid, "p")
    children.claim(str(tmp_path), one, POLICY)
    assert names(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[", "{}", "3", "[1]", '["a", "b", 3, 4, 5, 6, 7]'])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    assert names(tmp_path) == []


def test_a_second_person_is_refused(tmp_path: Path, living: int) -> None:
    children.claim(str(tmp_path), record("a", living, "p", "q"), POLICY)
    with pytest.raises(Refusal) as caught:
        children.claim(str(tmp_path), record("b", living, "r"), POLICY)
    assert caught.value.code == "ACCOUNT_SHARED"
    assert names(tmp_path) == ["a"]


def test_one_identity_in_common_is_the_same_person(tmp_path: Path, living: int) -> None:
    children.claim(str(tmp_path), record("a", living, "p", "q"), POLICY)
    children.claim(str(tmp_path), record("b", living, "q", "r"), POLICY)
    assert names(tmp_path) == ["a", "b"]


def test_a_shared_account_is_shared(tmp_path: Path, living: int) -> None:
    for name in ("a", "b"):
        children.claim(str(tmp_path), record(name, living, name, account="project"), POLICY)
    assert names(tmp_path) == ["a", "b"]


def test_accounts_have_room_each(tmp_path: Path, living: int) -> None:
    for name in ("a", "b"):
        children.claim(str(tmp_path), record(name, living, "p"), POLICY)
    with pytest.raises(Refusal) as caught:
        children.claim(str(tmp_path), record("c", living, "p"), POLICY)
    assert caught.value.code == "START_LIMIT"
    children.claim(str(tmp_path), record("d", living, "z", account="bob", uid=8), POLICY)
    assert names(tmp_path) == ["a", "b", "d"]


def test_records_are_json_that_is_replaced_whole(tmp_path: Path, living: int) -> None:
    children.claim(str(tmp_path), record("a", living, "p"), POLICY)
    assert json.loads((tmp_path / "a").read_text())[:2] == ["a", living]
    assert not (tmp_path / "new").exists()
