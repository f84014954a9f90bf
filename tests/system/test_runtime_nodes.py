"""Node pools on four nodes that do not see the endpoint's installation, for an ordinary account."""

import json
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from namespace_nodes import BatchSystem, Node
from runtimes import SYSTEM_PYTHON, TOP, fetch_wheels, served

import mep

pytestmark = pytest.mark.root

TASKS = 100
ENDPOINT = Path(__file__).with_name("runtime_endpoint.py")
INSTALLATION = sorted({TOP, Path(mep.__file__).parents[1], Path(sys.prefix)})
"""Checkout, modules, environment: some of them within others."""


@pytest.fixture
def account(new_account: Callable[[str], pwd.struct_passwd]) -> pwd.struct_passwd:
    return new_account("stage")


@pytest.fixture(scope="module")
def wheels(session_site_root: Path) -> Path:
    directory = fetch_wheels(session_site_root / "wheels")
    for wheel in directory.iterdir():
        wheel.chmod(0o644)
    return directory


def hidden() -> list[Path]:
    """The outermost directories of the installation."""
    return [
        path
        for path in INSTALLATION
        if not any(path != other and path.is_relative_to(other) for other in INSTALLATION)
    ]


def results(
    nodes: list[Node], account: pwd.struct_passwd, site_root: Path, **arguments: Any
) -> dict[str, Any]:
    """What the tasks of an endpoint over these nodes returned."""
    jobs, meeting = site_root / "jobs", site_root / "meeting"
    jobs.mkdir()
    meeting.mkdir()
    meeting.chmod(0o777)
    system = BatchSystem(nodes, account, jobs)
    told = json.dumps(
        {
            "scheduler": str(system.path),
            "nodes": len(nodes),
            "meeting": str(meeting),
            "transfer": False,
            **arguments,
        }
    )
    done = subprocess.run(
        [sys.executable, ENDPOINT, told],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "HOME": account.pw_dir},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    system.close()
    assert done.returncode == 0, done.stderr + system.stderr()
    return json.loads(done.stdout)


def four_pythons() -> list[Path | None]:
    """Homes, of other versions than the system's as far as there are any."""
    homes = {f"python{version}": home for version, home in served().items()}
    homes.pop(SYSTEM_PYTHON.name, None)
    pythons = [None, *homes.values()][:4]
    return [*pythons, *[None] * (4 - len(pythons))]


def test_tasks_on_nodes_of_four_pythons_that_see_nothing_of_us(
    account: pwd.struct_passwd, site_root: Path, wheels: Path
) -> None:
    nodes = [Node(f"node{number}", hidden(), home) for number, home in enumerate(four_pythons())]

    returned = results(
        nodes, account, site_root, wheels=str(wheels), tasks=TASKS, hidden=[*map(str, hidden())]
    )

    met = [returned.pop(f"meet-{number}") for number in range(4)]
    assert sorted(node for node, *_ in met) == ["node0", "node1", "node2", "node3"]
    versions = {node: ".".join(map(str, version)) for node, version, *_ in met}
    assert versions == {node.name: version_of(node) for node in nodes}
    assert {place for _, _, place, _ in met} == {
        f"{account.pw_dir}/.mep/endpoint/tasks_working_dir"
    }
    assert [seen for *_, seen in met] == [[]] * 4
    assert len(returned) == TASKS
    assert set(returned.values()) <= {node.name for node in nodes}
    assert Path(account.pw_dir, ".mep/endpoint/interchange.json").exists()
    (staged,) = Path(account.pw_dir, ".mep/runtime").iterdir()
    assert staged.name.startswith(mep.__version__)
    assert staged.stat().st_uid == account.pw_uid


def test_what_a_job_needs_is_carried_where_no_file_system_is_shared(
    account: pwd.struct_passwd, site_root: Path, wheels: Path
) -> None:
    gone = [*hidden(), Path("/home")]
    nodes = [Node(f"node{number}", gone, home) for number, home in enumerate(four_pythons()[:2])]
    returned = results(
        nodes,
        account,
        site_root,
        wheels=str(wheels),
        tasks=10,
        hidden=[*map(str, gone)],
        transfer=True,
    )
    met = [returned.pop(f"meet-{number}") for number in range(2)]
    versions = {node: ".".join(map(str, version)) for node, version, *_ in met}
    assert versions == {node.name: version_of(node) for node in nodes}
    assert [seen for *_, seen in met] == [[]] * 2
    for _, _, place, _ in met:
        assert place.startswith("/tmp/mep-node-")
        assert not Path(place).exists()
    assert set(returned.values()) <= set(versions)
    assert not Path(account.pw_dir, ".mep/runtime").exists()


def version_of(node: Node) -> str:
    name = node.python.name if node.python else SYSTEM_PYTHON.name.removeprefix("python")
    return ".".join(name.split(".")[:2])


def test_a_node_that_sees_the_installation_uses_it(
    account: pwd.struct_passwd, site_root: Path, wheels: Path
) -> None:
    other = next((home for v, home in served().items() if f"python{v}" != SYSTEM_PYTHON.name), None)
    node = Node("node0", [], other)
    returned = results([node], account, site_root, wheels=str(wheels), tasks=0, hidden=[])
    _, version, *_ = returned["meet-0"]
    assert version == list(sys.version_info[:2])


def test_where_no_node_pool_can_run_the_tasks_say_why(
    account: pwd.struct_passwd, site_root: Path, wheels: Path
) -> None:
    node = Node("node0", [*hidden(), Path(account.pw_dir), Path("/usr/local")])
    returned = results([node], account, site_root, wheels=str(wheels), tasks=1, hidden=[])
    for said in returned.values():
        assert "No node pool can run on this machine" in said
        assert f"{account.pw_dir}/.mep/runtime/{mep.__version__}-" in said
        assert "engine.runtime_dir" in said
