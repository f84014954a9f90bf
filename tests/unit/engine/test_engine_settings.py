"""The ``engine:`` section: what is taken, what is refused, and in which words."""

import pytest

from mep.endpoint.engines.settings import ComputeEngineSettings, PoolEngineSettings, read
from mep.wire.settings import SettingsError


def test_nothing_is_a_compute_engine_with_one_local_block():
    settings = read(None)
    assert isinstance(settings, ComputeEngineSettings)
    assert settings.provider.max_blocks == 1
    assert settings.max_retries_on_system_failure == 0


def test_a_published_local_template_is_taken_whole():
    settings = read(
        {
            "type": "GlobusComputeEngine",
            "label": "htex",
            "address": {"type": "address_by_interface", "ifname": "bond0"},
            "encrypted": True,
            "max_workers_per_node": 4,
            "container_type": None,
            "run_in_sandbox": False,
            "nodes_per_block": 1,
            "provider": {
                "type": "LocalProvider",
                "init_blocks": 1,
                "max_blocks": 1,
                "min_blocks": 0,
                "launcher": {"type": "SingleNodeLauncher"},
                "worker_init": "source activate",
            },
        }
    )
    assert settings.max_workers_per_node == 4
    assert settings.provider.worker_init == "source activate"


@pytest.mark.parametrize("kind", ["ThreadPoolEngine", "ProcessPoolEngine"])
def test_the_pool_engines(kind):
    settings = read({"type": kind, "max_workers": 4, "label": "x"})
    assert isinstance(settings, PoolEngineSettings)
    assert settings.max_workers == 4


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ([], "must be a mapping"),
        ({"type": "GlobusComputEngine"}, "did you mean 'GlobusComputeEngine'"),
        ({"type": 3}, "engine.type 3 is unknown"),
        ({"type": "GlobusMPIEngin"}, "did you mean 'GlobusMPIEngine'"),
        ({"provider": {"type": "LocalProvidr"}}, "did you mean 'LocalProvider'"),
        ({"provider": {"type": "LocalProvider", "max_block": 1}}, "did you mean 'max_blocks'"),
        ({"provider": {"launcher": {"type": "SrunLauncher"}}}, "SimpleLauncher"),
        ({"provider": {"launcher": {"debog": True}}}, "did you mean 'debug'"),
        ({"provider": []}, "engine.provider must be a mapping"),
        ({"provider": {"nodes_per_block": 2}}, "engine.provider.nodes_per_block is 2"),
        ({"nodes_per_block": 4}, "engine.nodes_per_block is 4"),
        ({"provider": {"init_blocks": 2}}, "init_blocks is greater than max_blocks"),
        ({"prefetch_capacty": 1}, "did you mean 'prefetch_capacity'"),
        ({"max_workers_per_node": "4"}, "Expected `int"),
        ({"max_workers_per_node": 0}, ">= 1"),
        ({"container_type": "docker"}, "engine.container_uri is missing"),
        ({"container_uri": "x"}, "engine.container_type is missing"),
        ({"type": "ThreadPoolEngine", "run_in_sandbox": True}, "share one directory"),
        ({"allowed_serializers": ["Jason"]}, "engine.allowed_serializers: unknown"),
        ({"allowed_serializers": ["JSONData"]}, "for functions"),
        ({"cpu_affinity": "blok"}, "matching regex"),
        ({"cpu_affinity": "list:"}, "matching regex"),
        ({"cores_per_worker": 0}, "> 0"),
        ({"available_accelerators": 0}, ">= 1"),
        ({"heartbeat_period": 30, "heartbeat_threshold": 30}, "must be greater"),
        ({"type": "ThreadPoolEngine", "provider": {}}, "unknown setting 'provider'"),
    ],
)
def test_what_is_refused(section, words):
    with pytest.raises(SettingsError) as refused:
        read(section)
    assert words in str(refused.value)
