"""Raw payloads: what they hold, what is copied, and what becomes of damaged ones."""

import base64
import dataclasses
import json
import math
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep import payload
from mep.payload import raw
from mep.payload.pickles import gathered
from mep.wire.strategies import DATA, as_text

LARGE = 100_000


class Array:
    """Gives its memory away when it is pickled, as arrays do."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: int) -> Any:
        assert protocol >= 5
        return Array, (pickle.PickleBuffer(self.memory),)


@dataclasses.dataclass
class Point:
    x: float
    tags: list[str]


def packed(value: Any) -> bytes:
    return payload.dump_result(value, [payload.RAW])


def again(value: Any) -> Any:
    return payload.load_result(packed(value))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.binary().map(bytearray) | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner)
    | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers(), inner)
    | st.frozensets(st.integers() | st.text()),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_a_value_is_what_it_is_by_dill(value: Any) -> None:
    by_dill = payload.load_result(payload.dump_result(value, ["00"]))
    raw_value = again(value)
    assert (raw_value, type(raw_value)) == (by_dill, type(by_dill))


@given(st.lists(plain), st.dictionaries(st.text(), plain))
def test_arguments_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    body = payload.dump_arguments(args, kwargs, payload.RAW)
    assert payload.form_of(body) == payload.RAW
    assert payload.load_arguments(body) == (tuple(args), kwargs)


@pytest.mark.parametrize("value", [Point(1.5, ["a"]), math.sqrt, ValueError, 1 + 2j, range(3)])
def test_more_than_built_in_data(value: Any) -> None:
    assert again(value) == value


def test_a_lambda_comes_back() -> None:
    assert again(lambda x: 2 * x)(21) == 42


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: data.decode("latin-1")])
@pytest.mark.parametrize("inside", [lambda value: value, lambda value: Point(1, [value])])
def test_large_values_come_back(kind: Any, inside: Any) -> None:
    value = inside(kind(bytes(range(256)) * 1000))
    loaded = again(value)
    assert loaded == value
    assert type(loaded) is type(value)


def test_large_bytes_are_not_copied_into_the_payload() -> None:
    large = bytes(LARGE)
    assert any(piece is large for piece in gathered(("a", large)))


def test_one_object_stays_one_object() -> None:
    large = bytes(LARGE)
    (args, kwargs) = payload.load_arguments(
        payload.dump_arguments((large, [large]), {"k": large}, payload.RAW)
    )
    assert args[0] is args[1][0]
    assert args[0] is kwargs["k"]


@pytest.mark.parametrize("size", [0, 1, 2, 4095, 4096, 4097, LARGE])
@pytest.mark.parametrize("beside", [1, lambda: 1])
def test_memory_of_an_array_comes_back_writable(size: int, beside: Any) -> None:
    value = Array(bytearray(b"x" * size))
    body = packed([value, beside, value])
    first, _, second = payload.load_result(body)
    assert first is second
    assert bytes(first.memory) == b"x" * size
    memoryview(first.memory)[:] = bytes(size)


def test_an_array_lies_in_the_payload_it_came_in() -> None:
    body = bytearray(packed(Array(bytearray(b"x" * LARGE))))
    array = payload.load_result(body)
    at = body.index(b"x" * LARGE)
    assert at % 16 == 0
    body[at] = ord("y")
    assert array.memory[0] == ord("y")


def test_memory_that_cannot_be_given_away() -> None:
    every_other = memoryview(bytearray(LARGE))[::2]
    with pytest.raises(payload.PayloadError, match="Array cannot be serialized"):
        packed(Array(every_other))


def test_the_layout() -> None:
    body = packed(7)
    assert body[:16] == b"\0\1\0\0" + struct.pack("<IQ", 0, len(body) - 16)
    assert pickle.loads(body[16:]) == 7
    assert packed(lambda: 1)[2] == 1


def test_its_spelling_as_text() -> None:
    body = packed([1, "two"])
    text = as_text(body)
    assert text == "rd\n" + base64.b64encode(body).decode()
    assert payload.load_data(text) == [1, "two"]
    assert payload.load_data(payload.dump_data([1, "two"], payload.RAW)) == [1, "two"]
    assert as_text(payload.dump_result([1], ["11"])) == "6\n11\n[1]"
    assert json.loads(json.dumps(text)) == text


def test_the_answer_has_the_form_of_the_question() -> None:
    assert DATA["DillDataRaw"] == payload.RAW
    assert payload.form_of(payload.dump_arguments((), {})) == "00"
    assert payload.form_of(memoryview(packed(1))) == payload.RAW


def test_raw_arguments_where_they_are_not_allowed() -> None:
    body = payload.dump_arguments((1,), {}, payload.RAW)
    with pytest.raises(payload.PayloadError, match=r"'rd'.*allows only 11"):
        payload.load_arguments(body, ["11"])
    text = payload.pack([as_text(body), "11\n{}"])
    with pytest.raises(payload.PayloadError, match=r"'rd'.*allows only 11"):
        payload.load_arguments(text, ["11"])


def test_what_is_no_pair_of_arguments() -> None:
    with pytest.raises(payload.PayloadError, match="raw arguments are a list"):
        payload.load_arguments(packed([1, 2]))


def test_an_exception_comes_back() -> None:
    body, text = payload.dump_exception(KeyError("k"), payload.RAW)
    assert payload.form_of(body) == payload.RAW
    assert isinstance(payload.load_exception(body), KeyError)
    assert "KeyError" in text


WHOLE = packed(["text", Array(bytearray(5000)), b"y" * 70_000])


@pytest.mark.parametrize("end", [0, 1, 7, 8, 20, 31, 32, 100, len(WHOLE) - 1])
def test_one_that_is_cut_off(end: int) -> None:
    with pytest.raises(payload.PayloadError):
        payload.load_result(WHOLE[:end])


@pytest.mark.parametrize(
    "start",
    [b"\0\2\0\0", b"\0\1\2\0", b"\0\1\0\1", b"\0\1\0\0\xff\xff\xff\xff", b"\0\1\0\0\2\0\0\0"],
)
def test_one_whose_head_is_wrong(start: bytes) -> None:
    with pytest.raises(payload.PayloadError):
        payload.load_result(start + WHOLE[len(start) :])


def test_lengths_beyond_all_bounds() -> None:
    body = b"\0\1\0\0" + struct.pack("<IQQ", 1, 2**64 - 1, 2**64 - 1)
    with pytest.raises(payload.PayloadError, match="says that it has"):
        raw.loads(body)


HARMLESS = packed({"a": [1, 2.5, None], "b": "text"})


@given(st.binary(max_size=64))
def test_any_bytes_after_the_mark_are_a_value_or_a_payload_error(tail: bytes) -> None:
    load_or_refuse(raw.MARK + b"\1\0\0" + tail)


@given(st.integers(0, 15), st.integers(0, 255))
def test_any_change_of_the_head_is_a_value_or_a_payload_error(at: int, byte: int) -> None:
    load_or_refuse(HARMLESS[:at] + bytes([byte]) + HARMLESS[at + 1 :])


def load_or_refuse(body: bytes) -> None:
    if not raw.is_raw(body):
        return
    try:
        raw.loads(body)
    except payload.PayloadError:
        pass
    except Exception as error:  # what pickle makes of a stream that is none
        with pytest.raises(payload.PayloadError, match=type(error).__name__):
            payload.load_result(body)
