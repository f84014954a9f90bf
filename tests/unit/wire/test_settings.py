"""Strict settings: each refusal names the place and the nearest known key."""

import msgspec
import pytest

from mep.wire.settings import SettingsError, convert


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
