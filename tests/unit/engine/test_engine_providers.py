"""``provider:`` and ``launcher:``: Parsl's names, keys, defaults; nothing a shell would read."""

import inspect

import msgspec
import parsl.launchers
import parsl.providers
import pytest

from mep.endpoint.engines.launcher_settings import LAUNCHERS
from mep.endpoint.engines.provider_settings import (
    PROVIDERS,
    LocalProviderSettings,
    check_packages,
    pools_of,
    read_provider,
)
from mep.endpoint.engines.scheduler_settings import walltime_text
from mep.endpoint.engines.settings import read
from mep.wire.settings import SettingsError

ASKED = {"nodes_per_block", "launcher"}
"""Compared apart: None stands for 1, and a launcher is compared by its name."""


def parameters(cls):
    signature = inspect.signature(cls.__init__)
    return {name: p.default for name, p in signature.parameters.items() if name != "self"}


def defaults(kind):
    found = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            found[field.name] = inspect.Parameter.empty
        elif field.default is not msgspec.NODEFAULT:
            found[field.name] = field.default
        else:
            found[field.name] = field.default_factory()
    return found


def same(ours, theirs):
    """Empty lists of either kind are the same, and so are no mapping and an empty one."""
    return ours == theirs or (ours in ((), None) and theirs in ([], {}))


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "LocalProvider"])
def test_a_provider_has_the_keys_and_defaults_of_the_installed_parsl(name):
    theirs = parameters(getattr(parsl.providers, name))
    kind = PROVIDERS[name]
    ours = defaults(kind)
    only_ours = set(ours) - set(theirs)
    # The clouds' providers lack what the others have; it is taken, and kept from Parsl.
    assert only_ours <= {"worker_init", "nodes_per_block"}, only_ours
    assert set(theirs) <= set(ours)
    for key in set(theirs) - ASKED:
        assert same(ours[key], theirs[key]), (key, ours[key], theirs[key])
    if "launcher" in theirs:
        assert ours["launcher"].name() == type(theirs["launcher"]).__name__


def test_every_provider_and_launcher_of_the_installed_parsl_is_known():
    assert set(parsl.providers.__all__) == set(PROVIDERS)
    assert set(parsl.launchers.__all__) == set(LAUNCHERS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_has_the_keys_and_defaults_of_the_installed_parsl(name):
    theirs = parameters(getattr(parsl.launchers, name))
    assert defaults(LAUNCHERS[name]) == theirs


def test_every_setting_is_described():
    for kind in [*PROVIDERS.values(), *LAUNCHERS.values()]:
        for field in msgspec.inspect.type_info(kind).fields:
            described = (getattr(field.type, "extra_json_schema", None) or {}).get("description")
            assert described, (kind, field.name)


AWS = {"type": "AWSProvider", "image_id": "ami-1", "key_name": "k"}
GOOGLE = {"type": "GoogleCloudProvider"} | dict.fromkeys(
    ("project_id", "key_file", "region", "os_project", "os_family"), "x"
)


def slurm(**settings):
    return {"type": "SlurmProvider", **settings}


def test_a_published_slurm_template_is_taken_whole():
    settings = read(
        {
            "type": "GlobusComputeEngine",
            "nodes_per_block": 4,
            "strategy": "simple",
            "job_status_kwargs": {"max_idletime": 300, "strategy_period": 60},
            "provider": slurm(
                partition="cpu",
                account="abc-123_x",
                walltime="00:30:00",
                launcher={"type": "SrunLauncher", "overrides": "-c $SLURM_CPUS_ON_NODE --exact"},
                scheduler_options="#SBATCH --gpus-per-node=4\n#SBATCH --mail-type=NONE",
                worker_init="module load conda\nconda activate x",
                regex_job_id=r"Job (?P<id>\d+)",
                cmd_timeout=120,
                exclusive=False,
            ),
        }
    )
    assert settings.nodes == 4
    assert settings.scales
    assert settings.job_status_kwargs.max_idletime == 300
    assert settings.provider.walltime_s == 1800
    assert pools_of(settings.provider, settings.nodes) == 4


def test_a_key_without_a_value_is_not_given():
    settings = read_provider(slurm(account=None, worker_init=None, scheduler_options=None))
    assert settings.account is None
    assert settings.worker_init == ""


def test_a_walltime_that_yaml_has_read_as_a_number():
    assert read_provider(slurm(walltime=36000)).walltime_s == 36000
    assert walltime_text(36000.0) == "10:00:00"


def test_blocks_that_stay_as_they_are():
    assert not read({"strategy": "none"}).scales
    assert not read({"job_status_kwargs": {"strategy": "none"}}).scales


@pytest.mark.parametrize(
    ("engine", "provider", "nodes"), [(None, None, 1), (4, None, 4), (None, 3, 3), (2, 2, 2)]
)
def test_nodes_per_block_has_two_places(engine, provider, nodes):
    section = {"nodes_per_block": engine, "provider": slurm(nodes_per_block=provider)}
    assert read(section).nodes == nodes


def test_a_launcher_for_one_node_starts_one_pool():
    assert pools_of(read_provider(slurm()), 4) == 1


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"type": "SlurmProvidr"}, "did you mean 'SlurmProvider'"),
        ({"type": "CobaltProvider"}, "use PBSProProvider"),
        ({"type": ["SlurmProvider"]}, "is unknown"),
        (slurm(partion="cpu"), "did you mean 'partition'"),
        (slurm(launcher={"type": "SrunLaunher"}), "did you mean 'SrunLauncher'"),
        (slurm(launcher={"type": "SrunLauncher", "override": ""}), "did you mean 'overrides'"),
        (slurm(launcher="SrunLauncher"), "engine.provider.launcher must be a mapping"),
        (slurm(init_blocks=2), "init_blocks is greater than max_blocks"),
        (slurm(min_blocks=2), "min_blocks is greater than max_blocks"),
        (slurm(walltime="30"), "HH:MM:SS"),
        (slurm(walltime="1-00:00:00"), "HH:MM:SS"),
        (slurm(walltime="00:00:30"), "one minute"),
        (slurm(walltime=30), "one minute"),
        (slurm(regex_job_id="("), "no regular expression"),
        (slurm(regex_job_id=r"(\d+)"), "no group named id"),
        ({"type": "LSFProvider", "request_by_nodes": False}, "both cores_per_block"),
        ({"type": "KubernetesProvider"}, "required field `image`"),
        ({**AWS, "walltime": "1h"}, "HH:MM:SS"),
        ({**GOOGLE, "worker_init": "module load x"}, "runs no worker_init"),
    ],
)
def test_what_is_refused(section, words):
    with pytest.raises(SettingsError) as refused:
        read_provider(section)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"provider": {"type": "KubernetesProvider", "image": "i", "nodes_per_block": 2}}, "pod"),
        ({"nodes_per_block": 2, "provider": GOOGLE}, "one instance"),
        ({"nodes_per_block": 0, "provider": slurm()}, ">= 1"),
        ({"job_status_kwargs": {"max_idle_time": 1}}, "did you mean 'max_idletime'"),
        ({"strategy": "simpel"}, "known here: simple, htex_auto_scale, none"),
    ],
)
def test_what_an_engine_cannot_have(section, words):
    with pytest.raises(SettingsError) as refused:
        read(section)
    assert words in str(refused.value)


def test_two_places_that_disagree():
    with pytest.raises(SettingsError, match="remove one of them"):
        read({"nodes_per_block": 4, "provider": slurm(nodes_per_block=2)})


EVIL = [
    "x\n#SBATCH --uid=0",
    "x;id",
    "$(id)",
    "`id`",
    "a b",
    "x'",
    'x"',
    "--wrap=id",
    "",
    "x\n",
    "é",
]
SHELL_FREE = [
    ("SlurmProvider", ["partition", "account", "qos", "clusters", "gres"]),
    ("PBSProProvider", ["account", "queue"]),
    ("TorqueProvider", ["account", "queue"]),
    ("LSFProvider", ["project", "queue"]),
    ("GridEngineProvider", ["queue"]),
]


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, keys in SHELL_FREE for key in keys]
)
def test_no_name_can_become_a_command_or_a_directive(kind, key, value):
    with pytest.raises(SettingsError, match=f"engine.provider.{key} has characters"):
        read_provider({"type": kind, key: value})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("SlurmProvider", "constraint", "gpu\n#SBATCH -A x"),
        ("PBSProProvider", "select_options", "ngpus=4\n#PBS -A x"),
        ("CondorProvider", "requirements", "x\nqueue 100"),
        ("CondorProvider", "project", "x\nqueue"),
    ],
)
def test_no_expression_spans_lines(kind, key, value):
    with pytest.raises(SettingsError, match=f"engine.provider.{key} has characters"):
        read_provider({"type": kind, key: value})


@pytest.mark.parametrize(
    "overrides", ["-n 1; id", "$(id)", "`id`", "x\nid", "a | b", "> /x", "& id"]
)
def test_no_argument_of_a_launcher_begins_a_command(overrides):
    with pytest.raises(SettingsError, match=r"engine.provider.launcher.overrides has characters"):
        read_provider(slurm(launcher={"type": "SrunLauncher", "overrides": overrides}))


def test_what_is_not_installed_is_named():
    settings = read_provider(AWS)
    with pytest.raises(SettingsError, match="needs the Python package boto3"):
        check_packages(settings)
    check_packages(LocalProviderSettings())
    check_packages(read_provider(slurm()))
