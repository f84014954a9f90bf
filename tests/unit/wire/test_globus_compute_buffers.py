"""Buffers that the published Globus Compute SDK wrote (see the note in the JSON file)."""

import json
import platform
from pathlib import Path

import pytest

from mep import payload
from mep.wire.strategies import CODE, DATA, READ_ONLY, allowed_ids, strategy_id

VECTORS = json.loads(Path(__file__).with_name("globus_compute_buffers.json").read_text())
GREETING = ("hello Ada, hello Ada, hello Ada", 2)
MADE_BY_OWN = f"Python {'.'.join(platform.python_version_tuple()[:2])}." in VECTORS["made_by"]


def test_every_strategy_that_the_sdk_writes_is_here():
    assert set(VECTORS["code"]) == set(CODE) - {"PickleCode"}
    assert set(VECTORS["data"]) == set(DATA) - {"DillDataRaw"}


@pytest.mark.parametrize("strategy", VECTORS["code"])
def test_a_function_is_read(strategy):
    body = VECTORS["code"][strategy].encode()
    (buffer,) = payload.unpack(body)
    assert buffer[:2] == CODE[strategy]
    if strategy == "DillCode" and not MADE_BY_OWN:
        with pytest.raises(payload.PayloadError):
            payload.load_function(body)
    else:
        assert payload.load_function(body)("Ada", times=3) == GREETING


@pytest.mark.parametrize("strategy", VECTORS["data"])
def test_arguments_are_read(strategy):
    packed = VECTORS["data"][strategy].encode()
    assert payload.unpack(packed)[0][:2] == DATA[strategy]
    args, kwargs = payload.load_arguments(packed)
    assert (list(args), kwargs) == (["Ada"], {"times": 3})


def test_pickled_code_of_the_oldest_sdks_is_read():
    body = payload.pack(["02\ngASVEgAAAAAAAACMBG1hdGiUjAVoeXBvdJSTlC4=\n"])
    assert payload.load_function(body)(3, 4) == 5


@pytest.mark.parametrize("strategy", VECTORS["code"])
def test_a_function_by_a_serializer_that_is_not_allowed(strategy):
    allowed = sorted(set(CODE.values()) - {CODE[strategy]})
    with pytest.raises(payload.PayloadError, match="allows only"):
        payload.load_function(VECTORS["code"][strategy].encode(), allowed)


def test_arguments_by_a_serializer_that_is_not_allowed():
    packed = VECTORS["data"]["DillDataBase64"].encode()
    with pytest.raises(payload.PayloadError, match=r"serializer '00'.*only 11, st"):
        payload.load_arguments(packed, ["11", "st"])
    assert payload.load_arguments(packed, ["00", "st"])


def test_names_paths_and_ids():
    assert strategy_id("globus_compute_sdk.serialize.JSONData") == "11"
    assert strategy_id("st") == strategy_id("PureSourceTextInspect") == "st"
    for name in ("Jason", "PickleCode", *READ_ONLY):
        with pytest.raises(ValueError, match="strategy"):
            strategy_id(name)


def test_what_a_list_of_allowed_serializers_stands_for():
    assert allowed_ids([]) == []
    assert allowed_ids(["globus_compute_sdk.serialize.JSONData", "DillCode"]) == ["01", "11"]
    assert allowed_ids(["globus_compute_sdk.*Code", "JSONData"]) == sorted([*CODE.values(), "11"])
    assert "00" in allowed_ids(["globus_compute_sdk.*Data", "st"])
    assert allowed_ids(["DillDataBase64", "st"]) == ["00", "rd", "st"]


@pytest.mark.parametrize(
    ("names", "words"),
    [(["Jason"], "unknown"), (["JSONData"], "for functions"), (["DillCode"], "for data")],
)
def test_what_such_a_list_may_not_be(names, words):
    with pytest.raises(ValueError, match=words):
        allowed_ids(names)
