"""Canonical JSON, key derivation, signatures, tokens; vectors shared with root's decoder."""

import base64
import hashlib
import hmac
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mep_cloud import grants
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked, user_endpoint_id

MASTER = bytes(range(32))
ENDPOINT = "5f3a0f9e-7f4e-4a53-8d4c-0123456789ab"
GRANT = grants.Grant(
    endpoint_id=ENDPOINT,
    user_endpoint_id="0d1f3d0a-8a0c-5f5e-9c4b-0123456789ab",
    identities=[{"id": "i", "status": "used", "username": "zoë@example.org"}],
    options=b'{"a":1}',
    runtime=b"{}",
    boot_id="ab" * 16,
    nonce="cd" * 16,
    issued=1_700_000_000,
    key_version=1,
)


def test_grant_has_exactly_the_documented_keys() -> None:
    raw = GRANT.encode()
    assert json.loads(raw) == {
        "v": 1,
        "endpoint_id": ENDPOINT,
        "user_endpoint_id": GRANT.user_endpoint_id,
        "identities": [{"id": "i", "status": "used", "username": "zoë@example.org"}],
        "options_sha256": hashlib.sha256(b'{"a":1}').hexdigest(),
        "runtime_sha256": hashlib.sha256(b"{}").hexdigest(),
        "boot_id": "ab" * 16,
        "issued": 1_700_000_000,
        "expires": 1_700_000_180,
        "nonce": "cd" * 16,
        "key_version": 1,
    }
    assert raw.startswith(b'{"boot_id":"')
    assert b"zo\\u00eb" in raw
    assert b" " not in raw


def test_labels_keep_keys_signatures_and_tokens_apart() -> None:
    key = grants.grant_key(MASTER, ENDPOINT, 1)
    assert key == hmac.digest(MASTER, f"mep-key-1\0{ENDPOINT}\x001".encode(), "sha256")
    assert key != grants.grant_key(MASTER, ENDPOINT, 2)
    raw = GRANT.encode()
    assert grants.signature(key, raw) == hmac.digest(key, b"mep-grant-1\0" + raw, "sha256")
    token = grants.token(key, raw)
    assert "=" not in token
    mac = base64.urlsafe_b64decode(token + "=")
    assert mac == hmac.digest(key, b"mep-token-1\0" + raw, "sha256")
    assert mac != grants.signature(key, raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_json_is_stable_and_ascii(value: object) -> None:
    raw = grants.canonical(value)
    assert raw.isascii()
    assert json.loads(raw) == value
    assert grants.canonical(json.loads(raw)) == raw


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": b"bytes"}, {1: 2, "a": 3}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        grants.canonical(value)


def test_too_deep_is_refused() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        grants.canonical(value)


def test_user_endpoint_id_is_stable() -> None:
    runtime = {"python": {"version": "3.11.2 (main)"}, "globus_compute_sdk_version": "4.19.0"}
    first = user_endpoint_id(ENDPOINT, "i", {"a": 1, "b": 2}, runtime)
    name = '["i",{"a":1,"b":2},"3.11","4.19.0"]'
    assert first == str(uuid.uuid5(uuid.UUID(ENDPOINT), name))
    assert user_endpoint_id(ENDPOINT, "i", {"b": 2, "a": 1}, runtime) == first
    patched = {"python_version": "3.11.9", "globus_compute_sdk_version": "4.19.0"}
    assert user_endpoint_id(ENDPOINT, "i", {"a": 1, "b": 2}, patched) == first
    others = [
        user_endpoint_id(ENDPOINT, "j", {"a": 1, "b": 2}, runtime),
        user_endpoint_id(ENDPOINT, "i", {"a": 2, "b": 2}, runtime),
        user_endpoint_id(ENDPOINT, "i", {"a": 1, "b": 2}, {}),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("runtime", [{}, {"python": 3}, {"python": {"version": 3}}, {"python": {}}])
def test_odd_runtimes_still_have_an_id(runtime: dict[str, object]) -> None:
    assert user_endpoint_id(ENDPOINT, "i", {}, runtime)


@pytest.mark.parametrize("text", ["", "x", "5f3a0f9e", "\ud800", ENDPOINT + "\n\n"])
def test_bad_ids_are_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        checked(text, "task id")
    assert (caught.value.status, caught.value.code) == (400, "INVALID_UUID")


def test_ids_have_one_spelling() -> None:
    assert checked(ENDPOINT.upper(), "task id") == ENDPOINT
    assert checked("{" + ENDPOINT + "}", "task id") == ENDPOINT


VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "grant.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_shared_vectors(vector: dict[str, Any]) -> None:
    fields = vector["fields"]
    raw = grants.canonical(fields)
    assert raw.hex() == vector["grant_hex"]
    master = bytes.fromhex(VECTORS["master_hex"])
    key = grants.grant_key(master, fields["endpoint_id"], fields["key_version"])
    assert key.hex() == VECTORS["keys"][str(fields["key_version"])]
    assert grants.signature(key, raw).hex() == vector["signature_hex"]
    assert grants.token(key, raw) == vector["token"]
    encoded = grants.Grant(
        endpoint_id=fields["endpoint_id"],
        user_endpoint_id=fields["user_endpoint_id"],
        identities=fields["identities"],
        options=vector["options"].encode(),
        runtime=vector["runtime"].encode(),
        boot_id=fields["boot_id"],
        nonce=fields["nonce"],
        issued=fields["issued"],
        key_version=fields["key_version"],
    ).encode()
    expected = {**fields, "expires": fields["issued"] + grants.LIFETIME_S}
    assert json.loads(encoded) == expected
