"""Strict settings: each refusal names the place and the nearest known key."""

from typing import Annotated, Literal

import msgspec
import pytest

from mep.wire.settings import SettingsError, convert


class Idle(msgspec.Struct, forbid_unknown_fields=True):
    max_idletime: float = 1.0


class Engine(msgspec.Struct, forbid_unknown_fields=True):
    idle: Annotated[Idle | None, msgspec.Meta(description="When.")] = None
    launcher: Literal["srun", "mpiexec", None] = None
    address: Literal["any"] | str = "any"


class Pool(msgspec.Struct, forbid_unknown_fields=True):
    max_blocks: int = 1
    walltime: str | None = None


def test_known_keys_are_taken() -> None:
    assert convert({"max_blocks": 3}, Pool, "provider") == Pool(3)


def test_an_absent_section_is_its_defaults() -> None:
    assert convert(None, Pool, "provider") == Pool()


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="provider has an unknown setting 'max_block'; did you"):
        convert({"max_block": 3}, Pool, "provider")


def test_an_unknown_key_that_is_near_to_nothing_lists_all() -> None:
    with pytest.raises(SettingsError, match="known here: max_blocks, walltime"):
        convert({"zzz": 3}, Pool, "provider")


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(SettingsError, match="provider: Expected `int`"):
        convert({"max_blocks": "3"}, Pool, "provider")


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be a mapping"):
        convert(["max_blocks"], Pool, "provider")


def test_an_unknown_key_within_a_section_names_the_nearest_too() -> None:
    with pytest.raises(SettingsError, match=r"engine\.idle has an unknown .* mean 'max_idletime'"):
        convert({"idle": {"max_idle_time": 3}}, Engine, "engine")


def test_a_value_that_is_none_of_those_that_there_are_is_told_them() -> None:
    with pytest.raises(
        SettingsError, match=r"engine\.launcher 'mpirun' is unknown; known here: sr"
    ):
        convert({"launcher": "mpirun"}, Engine, "engine")


def test_what_is_known_within_is_taken() -> None:
    raw = {"idle": {"max_idletime": 3.0}, "launcher": "srun", "address": "n1"}
    assert convert(raw, Engine, "engine") == Engine(Idle(3.0), "srun", "n1")
    assert convert({"idle": None, "launcher": None}, Engine, "engine") == Engine()
