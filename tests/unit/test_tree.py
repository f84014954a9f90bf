"""The tree is laid as the architecture page says, and what is declared twice agrees."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from jinja2.sandbox import SandboxedEnvironment
from jsonschema import Draft202012Validator

import mep
from mep.cli import examples
from mep.manager import config
from mep.wire.parent import Parent

TOP = Path(__file__).parents[2]
CONFIGS = TOP / "configs"
PACKAGES = ("mep", "sdk/mep_sdk", "cloud/mep_cloud")
# Run on Python 3.8 and newer, wherever a site's worker_init leads.
ANCIENT = (
    "mep/worker",
    "mep/bytecode.py",
    "mep/payload",
    "mep/shell.py",
    "mep/sources.py",
    "mep/wire/frames.py",
    "mep/wire/line.py",
    "mep/wire/stream.py",
    "mep/wire/node.py",
)


def modules(*parts: str) -> Iterator[Path]:
    for part in parts or PACKAGES:
        path = TOP / part
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("folder", ["packaging", "sdk", "cloud", "systemd", "configs"])
def test_folders_that_are_no_package_do_not_become_one(folder: str) -> None:
    assert (TOP / folder).is_dir()
    assert not (TOP / folder / "__init__.py").exists()


def test_every_package_says_what_it_is() -> None:
    for module in modules():
        if module.name == "__init__.py":
            assert ast.get_docstring(ast.parse(module.read_text())), module


@pytest.mark.parametrize("module", [*modules(*ANCIENT)], ids=lambda path: path.name)
def test_what_runs_on_old_pythons_has_no_newer_syntax(module: Path) -> None:
    ast.parse(module.read_text(), feature_version=(3, 8))


def test_payloads_are_opaque_but_to_sdk_and_worker() -> None:
    """Only those two unpickle, by way of `mep.payload`."""
    opens = {*modules("mep/payload", "mep/worker", "sdk/mep_sdk")}
    for module in set(modules()) - opens:
        assert not imports(module) & {"pickle", "marshal", "shelve", "dill", "mep.payload"}, module


def imports(module: Path) -> set[str]:
    """Names of the modules that a module imports, at whatever depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{name.name}" for name in node.names} | {node.module or ""}
    return names


def test_the_version_is_told_the_same_everywhere() -> None:
    make = shutil.which("make")
    assert make, "make is how everything here is run"
    printed = subprocess.run(
        [make, "--no-print-directory", "--eval", "print:;@echo $(VERSION)", "print"],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert printed.stdout.strip() == mep.__version__
    newest = re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == mep.__version__


# --- examples of configuration ------------------------------------------------------------------


def test_every_example_can_be_had_from_the_installed_package() -> None:
    for name in examples.NAMES:
        assert examples.text(name) == (CONFIGS / name).read_text()


def test_a_wheel_carries_the_examples(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", tmp_path],
        cwd=TOP,
        capture_output=True,
        timeout=120,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in examples.NAMES:
            assert archive.read(f"mep/cli/configs/{name}") == (CONFIGS / name).read_bytes()
        names = archive.namelist()
    assert {"mep/py.typed", "mep_sdk/py.typed", "mep_cloud/py.typed"} <= set(names)


def test_the_examples_are_explained() -> None:
    page = (CONFIGS / "README.md").read_text()
    for file in CONFIGS.iterdir():
        assert file.name == "README.md" or f"({file.name})" in page, file


def test_example_policy_is_closed_to_root() -> None:
    policy = tomllib.loads(examples.text("policy.toml"))
    assert policy["minimum_uid"] >= 1000
    assert policy["pam"] == {"enable": False, "service_name": "mep", "no_new_privs": False}


def test_example_parent_is_what_the_wire_declares() -> None:
    text = (CONFIGS / "parent.json").read_bytes()
    parent = msgspec.json.decode(text, type=Parent)
    assert set(json.loads(text)) == set(Parent.__struct_fields__)
    assert parent.relay_url == yaml.safe_load(examples.text("config.yaml"))["relay_url"]


@pytest.mark.parametrize(
    ("options", "workers"),
    [({}, 2), ({"MAX_WORKERS": 8, "WORKER_INIT": "module load python"}, 8)],
)
def test_example_template_and_schema_belong_together(options: dict, workers: int) -> None:
    schema = json.loads(examples.text("user_config_schema.json"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(options)
    template = SandboxedEnvironment().from_string(examples.text("user_config_template.yaml.j2"))
    rendered = yaml.safe_load(template.render(_GC={"parent_config": {}}, **options))
    assert rendered["engine"]["max_workers_per_node"] == workers
    assert rendered["engine"]["provider"]["worker_init"] == options.get("WORKER_INIT")


def test_example_schema_refuses_other_options() -> None:
    validator = Draft202012Validator(json.loads(examples.text("user_config_schema.json")))
    for refused in ({"WALLTIME": "00:10:00"}, {"MAX_WORKERS": 0}, {"MAX_WORKERS": "8"}):
        assert not validator.is_valid(refused)


def test_example_environment_sets_nothing_before_it_is_edited() -> None:
    assert yaml.safe_load(examples.text("user_environment.yaml")) is None


def test_example_settings_become_the_example_parent() -> None:
    decoded, warnings = config.decode(examples.text("config.yaml"))
    assert warnings == ()
    example = msgspec.json.decode((CONFIGS / "parent.json").read_bytes(), type=Parent)
    made = config.parent(
        examples.text("config.yaml"),
        endpoint_id=example.endpoint_id,
        name=example.endpoint_name,
    )
    assert made == example
    assert decoded.multi_user
