"""CondorProvider where nodes share no file system with the endpoint."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_harness import Harness, until
from fake_condor import FakeCondor
from test_runtime_nodes import hidden

pytestmark = pytest.mark.root

WHERE = """
def run(paths):
    import os
    return [path for path in paths if os.path.exists(path)], os.getcwd()
"""


@pytest.fixture
def endpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "endpoint"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def condor(
    site_root: Path, tmp_path: Path, endpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeCondor]:
    fake = FakeCondor(site_root, [*hidden(), endpoint, Path("/home")])
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield fake
    fake.end_all()


def engine(endpoint: Path, **provider: object) -> Harness:
    return Harness(
        endpoint,
        type="GlobusComputeEngine",
        address="127.0.0.1",
        max_workers_per_node=1,
        provider={"type": "CondorProvider", "init_blocks": 1, "max_blocks": 1, **provider},
    )


def test_settings_and_node_pool_travel_with_the_job(condor, endpoint, tmp_path):
    more = tmp_path / "data.txt"
    more.write_text("wanted by the user")
    harness = engine(
        endpoint,
        transfer_input_files=[str(more)],
        scheduler_options="accounting_group = physics",
    )
    block = endpoint / "blocks" / "0"
    try:
        seen, place = harness.run_source(WHERE, [str(block), str(tmp_path / ".mep")])
        assert seen == []
        assert place.startswith(f"{condor.directory}/jobs/1/scratch/mep-node-")
        (wanted,) = condor.descriptions()
        user, script, settings, carried = map(Path, in_order(wanted["transfer_input_files"]))
        assert user == more
        assert script.suffix == ".script"
        assert settings == block / "pool.json"
        assert wanted["encrypt_input_files"] == str(settings)
        assert wanted["should_transfer_files"] == "YES"
        assert wanted["accounting_group"] == "physics"
        for file in (settings, carried):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        key = json.loads(settings.read_text())["connect"]["secret_key"]
        for file in block.iterdir():
            assert file == settings or key.encode() not in file.read_bytes()
    finally:
        harness.engine.close(0)
    until(lambda: not settings.exists() and not carried.exists(), "both removed")
    assert not (tmp_path / ".mep").exists()


def in_order(files: str) -> list[str]:
    """The user's, the script, the settings, the node pool."""
    script, *rest = files.split(",")
    return [rest[0], script, *rest[1:]]


def test_every_block_has_its_own_settings(condor, endpoint):
    harness = engine(endpoint, init_blocks=2, max_blocks=2)
    try:
        until(lambda: len(condor.descriptions()) == 2, "two jobs")
        named = [one["encrypt_input_files"] for one in condor.descriptions()]
        assert sorted(named) == [str(endpoint / f"blocks/{n}/pool.json") for n in range(2)]
        for one in condor.descriptions():
            settings = [
                path for path in one["transfer_input_files"].split(",") if path.endswith(".json")
            ]
            assert settings == [one["encrypt_input_files"]]
    finally:
        harness.engine.close(0)
