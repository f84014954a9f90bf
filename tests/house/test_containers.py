"""A mapped user's tasks in a container of theirs, and what the administrator does not allow."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import Site
from mep_sdk.errors import ConfigurationRefused
from podman_image import IMAGE, LIMIT_S, configure, make_root, missing

pytestmark = pytest.mark.root

NETWORK = {"container_cmd_options": "--network=none"}


@pytest.fixture(scope="module")
def bob(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pwd.struct_passwd]:
    """Bob, whose podman has the image.

    He has one number in a user namespace (see the fixture `site`).
    """
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    account = pwd.getpwnam(site.accounts["bob"])
    root = tmp_path_factory.mktemp("root") / "root.tar"
    make_root(root)
    home = Path(account.pw_dir)
    settings = home / ".config" / "containers"
    settings.mkdir(parents=True)
    configure(settings, home / "containers")
    for path in (home / ".config", settings, *settings.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    with root.open("rb") as tar:
        podman_of(account, "import", "--quiet", "-", IMAGE, stdin=tar)
    yield account
    podman_of(account, "system", "reset", "--force")
    for name in ("podman-run", "containers-user"):
        shutil.rmtree(f"/tmp/{name}-{account.pw_uid}", ignore_errors=True)


def podman_of(account: pwd.struct_passwd, *arguments: str, stdin: Any = None) -> str:
    done = subprocess.run(
        ["podman", *arguments],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        env={"HOME": account.pw_dir, "PATH": "/usr/bin:/usr/sbin:/bin"},
        cwd=account.pw_dir,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look() -> tuple[list[str], str, str]:
    import os

    with open("made", "w") as file:
        file.write("inside")
    return sorted(os.listdir("/usr/bin")), os.environ["USER"], os.path.join(os.getcwd(), "made")


def test_a_mapped_users_task_runs_in_a_container(site: Site, bob: pwd.struct_passwd) -> None:
    options = {**NETWORK, "container_type": "podman", "container_uri": IMAGE}
    with site.executor("bob", user_endpoint_config=options) as ex:
        programs, user, made = ex.submit(look).result(60)
    assert programs == ["python3", "sh", "sleep"]
    assert user == bob.pw_name
    assert Path(made).read_text() == "inside"
    assert Path(made).stat().st_uid == bob.pw_uid


def test_an_image_that_was_registered(site: Site, bob: pwd.struct_passwd) -> None:
    with site.executor("bob", user_endpoint_config=NETWORK) as ex:
        ex.container_id = ex.client.register_container(IMAGE, "podman", name="small")
        assert ex.client.get_container(ex.container_id)["location"] == IMAGE
        programs, _, _ = ex.submit(look).result(60)
    assert programs == ["python3", "sh", "sleep"]


def test_another_runtime_than_the_schema_allows(site: Site) -> None:
    options = {"container_type": "docker", "container_uri": IMAGE}
    with site.executor("bob", user_endpoint_config=options) as ex:
        with pytest.raises(ConfigurationRefused) as refused:
            ex.submit(look).result(60)
    assert "container_type" in str(refused.value)
