"""How settings and node pool come to the nodes."""

from pathlib import Path

import pytest

from mep.endpoint.engines.provider_settings import read_provider
from mep.endpoint.providers.delivery import delivery, with_encryption
from mep.endpoint.runtime.runtime import Runtime

POD = {"type": "KubernetesProvider", "image": "i"}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(str(tmp_path / "runtime"))


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    path = tmp_path / "blocks" / "0" / "pool.json"
    path.parent.mkdir(parents=True)
    return path


def test_nodes_that_see_the_directory_read_what_is_there(runtime, pool_file):
    found = delivery(read_provider({"type": "SlurmProvider"}), runtime, pool_file)
    assert str(pool_file) in found.command
    assert runtime.staged in found.command
    assert (found.secret, found.transferred) == (None, ())


def test_a_pod_has_its_settings_by_secret_and_its_node_pool_of_the_image(runtime, pool_file):
    found = delivery(read_provider(POD), runtime, pool_file)
    assert "exec mep-pool /var/run/secrets/mep/pool.json" in found.command
    assert str(pool_file.parent) not in found.command
    assert found.secret == pool_file
    assert runtime.staged == ""


def test_a_pod_with_volumes_may_have_the_runtime_on_one(runtime, pool_file):
    settings = read_provider({**POD, "persistent_volumes": [["home", "/home"]]})
    found = delivery(settings, runtime, pool_file)
    assert runtime.staged
    assert f"{runtime.staged}/start /var/run/secrets/mep/pool.json" in found.command


def test_a_job_of_htcondor_has_both_in_its_own_directory(runtime, pool_file):
    found = delivery(read_provider({"type": "CondorProvider"}), runtime, pool_file)
    settings, carried = found.transferred
    assert settings == pool_file
    assert f"exec sh ./{carried.name} ./pool.json" in found.command
    assert str(pool_file.parent) not in found.command


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ("\n", "/b/pool.json"),
        ("rank = Memory\n", "/b/pool.json"),
        ("Encrypt_Input_Files = a, b\n", "a, b,/b/pool.json"),
        ("encrypt_input_files=a\nencrypt_input_files=b\n", "b,/b/pool.json"),
        ("dont_encrypt_input_files = a\n", "/b/pool.json"),
    ],
)
def test_settings_are_encrypted_beside_what_the_user_has_encrypted(options, files):
    assert with_encryption(options, "/b/pool.json") == f"{options}encrypt_input_files = {files}\n"
