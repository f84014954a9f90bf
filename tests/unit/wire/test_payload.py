"""Buffers in Globus Compute's formats: what we write loads, what others wrote loads too."""

import base64
import json

import dill
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep import payload


def double(x: int) -> int:
    return 2 * x


@given(st.lists(st.text()))
def test_buffers_come_back(buffers: list[str]) -> None:
    assert payload.unpack(payload.pack(buffers)) == buffers


@given(st.binary(max_size=60))
def test_any_bytes_are_buffers_or_a_payload_error(data: bytes) -> None:
    try:
        assert all(isinstance(buffer, str) for buffer in payload.unpack(data))
    except payload.PayloadError:
        pass


@pytest.mark.parametrize("serializer", ["00", "11", "13"])
def test_arguments_come_back(serializer: str) -> None:
    packed = payload.dump_arguments((1, "two"), {"k": [3.5, None]}, serializer)
    args, kwargs = payload.load_arguments(packed)
    assert (list(args), kwargs) == ([1, "two"], {"k": [3.5, None]})


@pytest.mark.parametrize("serializer", ["01", "03", "04", "12", "st", "sd", ""])
def test_a_function_comes_back(serializer: str) -> None:
    assert payload.load_function(payload.dump_function(double, serializer))(21) == 42


def test_old_pickled_code_is_still_read() -> None:
    buffer = "02\n" + base64.b64encode(dill.dumps(double)).decode()
    assert payload.load_function(payload.pack([buffer]))(21) == 42


def test_combined_code_is_still_read_when_its_first_part_is_broken() -> None:
    source = "def f(x: int) -> int:\n    return 2 * x\n"
    buffer = "10\n" + ":".join(["01\n", "bm8=", "st\n", "f:" + source])
    assert payload.load_function(payload.pack([buffer]))(21) == 42


def test_source_runs_its_module_level_code_once() -> None:
    body = payload.dump_source(
        "f", "calls = []\ndef f():\n    calls.append(1)\n    return len(calls)\n"
    )
    function = payload.load_function(body)
    assert (function(), function()) == (1, 2)


def test_an_unknown_buffer_is_named() -> None:
    with pytest.raises(payload.PayloadError, match="unknown function buffer 'zz"):
        payload.load_function(payload.pack(["zz\nbody"]))


def test_what_cannot_be_serialized_is_named() -> None:
    with pytest.raises(payload.PayloadError, match="generator cannot be serialized"):
        payload.dump_data(x for x in "ab")


def test_the_first_serializer_that_takes_the_result_is_used() -> None:
    packed = payload.dump_result({1, 2}, ["11", "00"])
    assert payload.unpack(packed)[0].startswith("00\n")
    assert payload.load_result(packed) == {1, 2}


def test_a_bare_result_buffer_is_read() -> None:
    assert payload.load_result(b"11\n" + json.dumps([1]).encode()) == [1]


def test_an_exception_comes_back_with_its_text() -> None:
    try:
        double(None)  # type: ignore[arg-type]
    except TypeError as error:
        packed, text = payload.dump_exception(error)
    loaded = payload.load_exception(packed)
    assert isinstance(loaded, TypeError)
    assert "return 2 * x" in text


def test_an_exception_that_cannot_be_carried_leaves_its_text() -> None:
    class Awkward(Exception):
        def __reduce__(self) -> str:
            raise RuntimeError("no")

    packed, text = payload.dump_exception(Awkward("sad"))
    assert packed == b""
    assert "sad" in text
    assert payload.load_exception(packed) is None
