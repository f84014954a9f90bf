"""The files of a block, and what its provider is asked for."""

import json
import stat
from dataclasses import replace

import pytest

from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.plan import plan
from mep.endpoint.engines.settings import read
from mep.endpoint.engines.start_block import end_block, start_block
from mep.endpoint.engines.transport import Beside


class RecordingProvider:
    """Starts nothing."""

    def __init__(self):
        self.asked = []

    def start(self, block_id, command, environment):
        self.asked.append((block_id, command, environment))


@pytest.fixture
def planned(tmp_path):
    (tmp_path / "blocks").mkdir()
    around = Surroundings(str(tmp_path), "e", "u", 1000)
    beside = Beside(str(tmp_path))
    return plan(
        read(None), around, {"A": "b"}, cores=2, memory_gb=8, lifeline=None, transport=beside
    )


def test_the_settings_are_in_a_private_file_and_the_command_names_it(planned, tmp_path):
    provider = RecordingProvider()
    start_block(replace(planned, command=["pool"]), provider, "7")
    file = tmp_path / "blocks" / "7" / "pool.json"
    assert provider.asked == [("7", ["pool", str(file)], {"A": "b"})]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    told = json.loads(file.read_text())
    connect = {"ipc": str(tmp_path)}
    assert told == {**planned.pool_settings, "connect": connect, "block_id": "7"}
    end_block(planned, "7")
    assert not file.exists()


def test_a_file_of_an_earlier_block_is_replaced_and_never_written_into(planned, tmp_path):
    directory = tmp_path / "blocks" / "7"
    directory.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("old")
    (directory / "pool.json").symlink_to(elsewhere)
    start_block(planned, RecordingProvider(), "7")
    assert elsewhere.read_text() == "old"
    assert not (directory / "pool.json").is_symlink()
