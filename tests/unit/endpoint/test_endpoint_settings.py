"""Configuration, environment, events and the report to the warden."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mep.endpoint import config, environment
from mep.endpoint.__main__ import encode_report
from mep.endpoint.custody import Custody
from mep.endpoint.errors import ConfigRefused, StartFailed
from mep.endpoint.permits import Permits
from mep.endpoint.start import Prepared, check_data, of_the_submitter, prepare
from mep.wire import handover
from mep.wire.parent import Parent
from mep.wire.tasks import Function, Task

F1 = "5f8f5f8e-0000-4000-8000-00000000000a"
F2 = "5f8f5f8e-0000-4000-8000-00000000000b"


def parent(**settings: Any) -> Parent:
    return Parent(endpoint_id="e", endpoint_name="n", relay_url="https://r", **settings)


def test_defaults_are_globus_computes() -> None:
    made = config.convert({"engine": {"type": "X"}})
    assert made.idle_heartbeats_soft == 0
    assert made.idle_heartbeats_hard == 5760
    assert made.heartbeat_s(parent()) == 30
    assert made.heartbeat_s(parent(heartbeat_period=7.0)) == 7
    assert config.convert({"engine": {}, "heartbeat_period": 5}).heartbeat_s(parent()) == 5


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ({"engine": {}, "idle_heartbeat_soft": 1}, "did you mean 'idle_heartbeats_soft'"),
        ({"engine": {}, "idle_heartbeats_soft": "ten"}, "idle_heartbeats_soft"),
        ({"engine": {}, "idle_heartbeats_soft": -1}, ">= 0"),
        ({"engine": {}, "heartbeat_period": 0}, "> 0"),
        ({"engine": "GlobusComputeEngine"}, "engine"),
        ({}, "engine"),
    ],
)
def test_refused_settings(raw: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigRefused, match=part):
        config.convert(raw)


def test_a_function_must_be_on_every_list() -> None:
    both = config.convert({"engine": {}, "allowed_functions": [F1.upper(), F2]})
    permits = both.permits(parent(allowed_functions=(F1,)))
    assert not permits.refusal(F1, None)
    assert "not among" in permits.refusal(F2, None)
    assert not both.permits(parent()).refusal(F2, None)
    anything = config.convert({"engine": {}}).permits(parent())
    assert (anything.refusal("anything", None), anything.restricted) == ("", False)
    nothing = config.convert({"engine": {}}).permits(parent(allowed_functions=()))
    assert nothing.restricted
    assert nothing.refusal(F1, None)
    with pytest.raises(ConfigRefused, match="no UUID"):
        config.convert({"engine": {}, "allowed_functions": ["f"]}).permits(parent())
    with pytest.raises(ConfigRefused, match="no SHA-256"):
        config.convert({"engine": {}, "allowed_functions": [f"{F1}@12"]}).permits(parent())


def test_a_body_must_be_the_one_that_a_list_names() -> None:
    good, other = Function(F1, b"body"), Function(F1, b"another")
    digest = hashlib.sha256(b"body").hexdigest()
    pinned = Permits([[f"{F1}@{digest.upper()}"]])
    assert not pinned.refusal(F1, good)
    assert hashlib.sha256(b"another").hexdigest() in pinned.refusal(F1, other)
    two = Permits([[f"{F1}@{digest}", f"{F1}@{hashlib.sha256(b'another').hexdigest()}"]])
    assert not two.refusal(F1, other)
    assert not Permits([[F1, f"{F1}@{digest}"]]).refusal(F1, other), "once without a hash"
    assert Permits([[F1], [f"{F1}@{digest}"]]).refusal(F1, other)


def test_the_engine_is_given_no_other_body_than_the_one_that_was_judged() -> None:
    digest = hashlib.sha256(b"body").hexdigest()
    here = Custody(Permits([[f"{F1}@{digest}"]]), [])
    evil, good = Function(F1, b"evil"), Function(F1, b"body")
    (refused,) = here.take([evil], [Task("a", F1, "g", b"")]).refused
    assert refused.failure is not None
    assert refused.failure.code == "FUNCTION_NOT_PERMITTED"
    assert here.take([good], [Task("b", F1, "g", b"")]).functions == [good]
    again = here.take([evil], [Task("c", F1, "g", b"")])
    assert (again.functions, len(again.tasks)) == ([], 1), "the first body is the engine's"
    fresh = Custody(Permits([[f"{F1}@{digest}"]]), [])
    (unknown,) = fresh.take([], [Task("d", F1, "g", b"")]).refused
    assert unknown.failure is not None
    assert unknown.failure.code == "FUNCTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("serializers", "limited"),
    [
        (None, False),
        ([], False),
        (["DillCodeSource", "JSONData"], True),
        (["globus_compute_sdk.*Code", "JSONData"], True),
        (["globus_compute_sdk.serialize.AllCodeStrategies", "JSONData"], True),
        (["DillCodeSource", "JSONData", "DillDataBase64"], False),
        (["DillCodeSource", "AllDataStrategies"], False),
        (["globus_compute_sdk.*Code", "globus_compute_sdk.*Data"], False),
    ],
)
def test_a_list_of_functions_means_little_where_arguments_are_pickles(
    serializers: list[str] | None, limited: bool
) -> None:
    engine = {} if serializers is None else {"allowed_serializers": serializers}
    listed = config.convert({"engine": engine, "allowed_functions": [F1]})
    permits = listed.permits(parent())
    assert bool(listed.data_remark(permits)) != limited
    assert config.convert({"engine": engine}).data_remark(Permits([])) == ""
    check_data(permits, listed, parent())
    if limited:
        check_data(permits, listed, parent(require_json_data=True))
    else:
        with pytest.raises(ConfigRefused, match="require_json_data"):
            check_data(permits, listed, parent(require_json_data=True))


def test_environment_values_are_text_as_written() -> None:
    data = b"PATH: /opt/bin\nTIME: 10:30\nNUMBER: 007\nFLAG: yes\nEMPTY:\n"
    assert environment.parse(data) == {
        "PATH": "/opt/bin",
        "TIME": "10:30",
        "NUMBER": "007",
        "FLAG": "yes",
        "EMPTY": "",
    }
    assert environment.parse(b"") == environment.parse(b"# nothing\n") == {}


@pytest.mark.parametrize(
    "data",
    [b"HOME: /", b"USER: x", b"PWD: /", b"- a", b"a: [b]", b"a: {b: c}", b"a: b: c", b'"a=b": c',
     b'"": c', b'a: "\\0"', b"[]: x", b"!!python/object:os.system a"],
)  # fmt: skip
def test_refused_environments(data: bytes) -> None:
    with pytest.raises(ConfigRefused, match="user_environment"):
        environment.parse(data)


@pytest.mark.parametrize("text", ["short", "x" * 5000, "\u00e4" * 5000, "\U0001f600" * 5000])
def test_a_report_fits_its_pipe(text: str) -> None:
    data = encode_report("CODE", text)
    assert len(data) <= handover.REPORT_BYTES
    report = json.loads(data)
    assert report["code"] == "CODE"
    assert report["message"]
    assert text.startswith(report["message"])


def handed_over(home: Path, **sections: Any) -> handover.Handover:
    facts = {
        "endpoint_id": "e", "user_endpoint_id": "u", "identity_id": "i", "identities": ["i"],
        "events_socket": None, "template_directory": str(home),
    }  # fmt: skip
    defaults = {
        "token": b"t",
        "facts": json.dumps(facts).encode(),
        "options": b"{}",
        "runtime": b"null",
        "template": b"engine: {type: {{ t|default('T') }}}",
        "schema": b"",
        "environment": b"",
        "parent": b'{"endpoint_id": "e", "endpoint_name": "n", "relay_url": "https://r"}',
    }
    return handover.Handover(**(defaults | sections))


@pytest.fixture
def quiet_logging() -> Any:
    import logging

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_logging")
def test_prepare(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path)}
    given = handed_over(tmp_path, options=b'{"t": "U"}', environment=b"A: b")
    made: Prepared = prepare(given, variables)
    assert made.config.engine == {"type": "U"}
    assert made.directory == tmp_path / ".mep" / "u"
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert variables["A"] == "b"
    assert made.submitted == ""


@pytest.mark.usefixtures("quiet_logging")
def test_the_submitters_python_is_known_to_functions_and_engine(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path), "GC_USER_SDK_VERSION": "the site's"}
    runtime = b'{"python": {"version": "3.12.3"}, "globus_compute_sdk_version": "4.19.0"}'
    assert prepare(handed_over(tmp_path, runtime=runtime), variables).submitted == "3.12.3"
    assert variables["GC_USER_PYTHON_VERSION"] == "3.12.3"
    assert variables["GC_USER_SDK_VERSION"] == "the site's"


@pytest.mark.parametrize(
    "runtime", [{}, {"python": "3"}, {"python": {"version": [3]}}, {"python": {"version": "3\n"}}]
)
def test_a_runtime_that_says_no_version(runtime: dict[str, Any]) -> None:
    assert of_the_submitter(runtime) == {}


@pytest.mark.usefixtures("quiet_logging")
@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"facts": b"{}"}, "facts"),
        ({"parent": b'{"surprise": 1}'}, "parent.json"),
        ({"options": b"[]"}, "must be a JSON object"),
        ({"options": b'{"a": NaN}'}, "NaN is not JSON"),
        ({"options": b'{"a": ' + b"[" * 100_000}, "user_endpoint_config"),
        ({"runtime": b"nonsense"}, "user_runtime"),
    ],
)
def test_a_handover_that_cannot_be_used(
    tmp_path: Path, sections: dict[str, bytes], part: str
) -> None:
    with pytest.raises(StartFailed, match=part):
        prepare(handed_over(tmp_path, **sections), {"HOME": str(tmp_path)})


@pytest.mark.usefixtures("quiet_logging")
def test_a_home_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be used: No such file"):
        prepare(handed_over(tmp_path), {"HOME": str(tmp_path / "gone")})
