import hashlib
import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.root.grant import Grant, verify
from mep.root.messages import Start
from mep.root.refusal import Refusal

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/grant.json").read_text())
KEYS = {int(version): bytes.fromhex(key) for version, key in VECTORS["keys"].items()}
ME = (VECTORS["endpoint_id"], VECTORS["boot_id"])


def start(vector: dict[str, Any]) -> Start:
    return Start(
        bytes.fromhex(vector["grant_hex"]),
        bytes.fromhex(vector["signature_hex"]),
        vector["options"].encode(),
        vector["runtime"].encode(),
    )


def judge(packet: Start, *, at: float = VECTORS["now"], used: tuple[str, ...] = ()) -> Grant:
    return verify(packet, KEYS, ME, used, at)


def reason(judged: Callable[[], Grant]) -> str:
    with pytest.raises(Refusal) as caught:
        judged()
    assert caught.value.code == "GRANT_REFUSED"
    return caught.value.detail


def signed(fields: dict[str, Any], key: bytes = KEYS[1]) -> Start:
    grant = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    good = start(VECTORS["good"][0])
    signature = hmac.digest(key, b"mep-grant-1\0" + grant, "sha256")
    return Start(grant, signature, good.options, good.runtime)


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda one: one["name"])
def test_good_vectors(vector: dict[str, Any]) -> None:
    grant = judge(start(vector))
    fields = vector["fields"]
    assert grant == Grant(
        fields["user_endpoint_id"],
        fields["identities"],
        sorted(one["id"] for one in fields["identities"]),
        fields["nonce"],
        fields["expires"],
        vector["token"].encode(),
    )


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda one: one["name"])
def test_bad_vectors(vector: dict[str, Any]) -> None:
    assert reason(lambda: judge(start(vector))) == vector["reason"]


def test_vectors_follow_the_protocol_page() -> None:
    master = bytes.fromhex(VECTORS["master_hex"])
    for version, key in KEYS.items():
        label = b"mep-key-1\0" + ME[0].encode() + b"\0" + str(version).encode()
        assert hmac.digest(master, label, "sha256") == key


def test_a_nonce_holds_once() -> None:
    vector = VECTORS["good"][0]
    used = (vector["fields"]["nonce"],)
    assert reason(lambda: judge(start(vector), used=used)) == "replay"


@pytest.mark.parametrize(
    ("offset", "fresh"), [(-184, False), (-183, True), (177, True), (178, False)]
)
def test_freshness_ends_where_the_page_says(offset: int, fresh: bool) -> None:
    """The vector was issued 3 s before `now` and expires 177 s after it."""
    at = VECTORS["now"] + offset
    if fresh:
        judge(start(VECTORS["good"][0]), at=at)
    else:
        assert reason(lambda: judge(start(VECTORS["good"][0]), at=at)) == "freshness"


def test_at_most_64_identities() -> None:
    fields = dict(VECTORS["good"][0]["fields"])
    people = [{"id": str(number), "status": "used"} for number in range(65)]
    assert len(judge(signed(fields | {"identities": people[:64]})).person) == 64
    assert reason(lambda: judge(signed(fields | {"identities": people}))) == "shape"


def test_fields_are_measured_in_bytes() -> None:
    fields = dict(VECTORS["good"][0]["fields"])
    for text, holds in (("ä" * 512, True), ("ä" * 513, False), ("\ud800" * 341, True)):
        packet = signed(fields | {"identities": [{"id": "1", "status": "used", "name": text}]})
        if holds:
            assert judge(packet).identities[0]["name"] == text
        else:
            assert reason(lambda packet=packet: judge(packet)) == "shape"


words = st.text(max_size=20) | st.integers() | st.none() | st.booleans() | st.floats()
values = st.recursive(words, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.sampled_from(sorted(VECTORS["good"][0]["fields"])), values)
def test_no_signed_field_of_another_shape_is_accepted(name: str, value: Any) -> None:
    """Whatever the relay signs, the outcome is a grant or a refusal."""
    try:
        grant = judge(signed(VECTORS["good"][0]["fields"] | {name: value}))
    except Refusal:
        return
    assert re.fullmatch("[0-9a-f-]{36}", grant.user_endpoint_id)
    assert all({"id", "status"} <= set(one) for one in grant.identities)


@given(st.dictionaries(st.text(), values))
def test_no_signed_object_of_another_shape_is_accepted(fields: dict[str, Any]) -> None:
    assert reason(lambda: judge(signed(fields))) == "shape"


@given(st.data())
def test_no_flipped_bit_is_accepted(data: st.DataObject) -> None:
    good = start(VECTORS["good"][0])
    part = data.draw(st.sampled_from(Start._fields))
    body = bytearray(getattr(good, part))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert reason(lambda: judge(good._replace(**{part: bytes(body)}))) != ""


@given(st.data())
def test_no_truncation_is_accepted(data: st.DataObject) -> None:
    good = start(VECTORS["good"][0])
    part = data.draw(st.sampled_from(Start._fields))
    body = getattr(good, part)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    assert reason(lambda: judge(good._replace(**{part: cut}))) != ""


@given(st.binary(), st.binary())
def test_random_bytes_are_refused(grant: bytes, signature: bytes) -> None:
    assert reason(lambda: judge(Start(grant, signature, b"", b""))) == "signature"


@given(st.binary())
def test_random_bytes_that_are_signed_are_refused(grant: bytes) -> None:
    signature = hmac.digest(KEYS[1], b"mep-grant-1\0" + grant, "sha256")
    assert reason(lambda: judge(Start(grant, signature, b"", b""))) == "shape"


def test_deep_nesting_is_refused() -> None:
    good = start(VECTORS["good"][0])
    deep = b"[" * 50000 + b"]" * 50000
    grant = re.sub(
        rb'"identities":\[.*?\],"issued"', b'"identities":' + deep + b',"issued"', good.grant
    )
    signature = hmac.digest(KEYS[1], b"mep-grant-1\0" + grant, "sha256")
    assert reason(lambda: judge(Start(grant, signature, good.options, good.runtime))) == "shape"


def test_hashes_are_of_the_exact_bytes() -> None:
    good = start(VECTORS["good"][0])
    fields = VECTORS["good"][0]["fields"]
    assert fields["options_sha256"] == hashlib.sha256(good.options).hexdigest()
    assert reason(lambda: judge(good._replace(options=good.options + b" "))) == "options"
    assert reason(lambda: judge(good._replace(runtime=good.runtime + b" "))) == "runtime"
