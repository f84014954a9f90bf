"""Containers: what is refused, what is run, and what the environment is inside."""

import pytest

from mep.endpoint.engines import container_settings
from mep.endpoint.engines.settings import read
from mep.wire.settings import SettingsError
from mep.worker import containers
from mep.worker.account import Account, completed, in_container
from mep.worker.containers import Container, ContainerError, Host, container_command

RUNDIR = "/home/alice/.mep/1234"
HOST = Host(RUNDIR, f"{RUNDIR}/tasks_working_dir", 1001, [100, 2000], {"SCRATCH": "/scratch/a b"})
LAUNCH = ["python3", "-I", f"{RUNDIR}/worker.zip", f"{RUNDIR}/containers/0.n.1"]
SHOWN = ["-v", f"{RUNDIR}:{RUNDIR}"]
START = ["run", "--rm", "--security-opt", "label=disable"]


def command(kind: str, options: str = "", host: Host = HOST) -> list[str]:
    return container_command(Container(kind, "image:1", options), LAUNCH, host)


def test_podman_runs_as_the_user_who_is_root_inside():
    wanted = ["podman", *START, "--user", "0:0", *SHOWN, "--gpus", "all", "image:1", *LAUNCH]
    assert command("podman", "--gpus all") == wanted
    assert command("podman-hpc", "--gpus all") == ["podman-hpc", *wanted[1:]]


def test_docker_is_told_whose_the_processes_are():
    assert command("docker") == [
        *("docker", *START, "--user", "1001:100", "--group-add", "2000", *SHOWN, "image:1"),
        *LAUNCH,
    ]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("docker", "--user 5"),
        ("docker", "--user=5"),
        ("docker", "-u5"),
        ("podman", "-u 5"),
        ("podman", "--userns=keep-id"),
    ],
)
def test_an_account_that_the_options_choose_is_left_alone(kind, options):
    assert "0:0" not in command(kind, options)
    assert "1001:100" not in command(kind, options)


def test_a_user_namespace_does_not_choose_the_account_of_dockers_processes():
    assert "1001:100" in command("docker", "--userns=host")


@pytest.mark.parametrize("kind", ["apptainer", "singularity"])
def test_apptainer(kind):
    assert command(kind, "--nv -B '/data dir'") == [
        *(kind, "run", "--bind", f"{RUNDIR}:{RUNDIR}", "--nv", "-B", "/data dir", "image:1"),
        *LAUNCH,
    ]


def test_a_working_directory_elsewhere_is_shown_too():
    elsewhere = HOST._replace(working_dir="/scratch/alice")
    assert "/scratch/alice:/scratch/alice" in command("podman", host=elsewhere)
    assert "/scratch/alice:/scratch/alice" in command("apptainer", host=elsewhere)
    beside = HOST._replace(working_dir=f"{RUNDIR}5")
    assert f"{RUNDIR}5:{RUNDIR}5" in command("podman", host=beside)


def test_custom_is_the_whole_command():
    options = "run.sh --dir={EXECUTOR_RUNDIR} -- {EXECUTOR_LAUNCH_CMD} --end"
    assert command("custom", options) == ["run.sh", f"--dir={RUNDIR}", "--", *LAUNCH, "--end"]


def test_a_launch_command_within_a_word_is_quoted_for_the_shell_that_reads_it():
    spaced = [*LAUNCH[:2], "/a b/worker.zip", "/a b/c"]
    made = container_command(
        Container("custom", "", "ssh n 'cd / && {EXECUTOR_LAUNCH_CMD}; done'"), spaced, HOST
    )
    assert made == ["ssh", "n", "cd / && python3 -I '/a b/worker.zip' '/a b/c'; done"]


def test_variables_of_the_node_stay_one_word():
    assert "/scratch/a b:/scratch" in command("podman", "-v $SCRATCH:/scratch")
    assert "/scratch/a b:/s" in command("custom", "x ${SCRATCH}:/s {EXECUTOR_LAUNCH_CMD}")
    assert "{SCRATCH}" in command("podman", "-e {SCRATCH}")
    assert "a$b" in command("podman", "-e a$$b")


def test_a_run_directory_is_never_read_as_a_variable():
    odd = HOST._replace(rundir="/home/$SCRATCH/x", working_dir="/home/$SCRATCH/x/t")
    assert "/home/$SCRATCH/x" in command("custom", "a {EXECUTOR_RUNDIR} {EXECUTOR_LAUNCH_CMD}", odd)


@pytest.mark.parametrize(
    ("kind", "options", "host", "words"),
    [
        ("podman", "-v $NOWHERE:/x", HOST, "names $NOWHERE, which is not set on the node"),
        ("podman", "-e 'A=1 $ 2'", HOST, "has a $ that begins no name"),
        ("podman", "-e 'A", HOST, "cannot be split"),
        ("docker", "", HOST._replace(rundir="/a:b"), "has a colon or a comma"),
    ],
)
def test_what_no_command_can_be_made_of(kind, options, host, words):
    with pytest.raises(ContainerError) as refused:
        command(kind, options, host)
    assert words in str(refused.value)


def test_both_sides_know_the_same_types_and_placeholder():
    assert (*container_settings.WITH_IMAGE, container_settings.CUSTOM) == containers.TYPES
    assert container_settings.LAUNCH == containers.LAUNCH


@pytest.mark.parametrize("kind", container_settings.WITH_IMAGE)
def test_settings_reach_the_node_pool(kind):
    section = {"container_type": kind, "container_uri": "i", "container_cmd_options": None}
    told = container_settings.container(read(section))
    assert told == {"type": kind, "uri": "i", "options": ""}


def test_providers_that_run_images_themselves():
    provider = {"type": "KubernetesProvider", "image": "i"}
    read({"provider": provider})
    with pytest.raises(SettingsError) as refused:
        read({"provider": provider, "container_type": "docker", "container_uri": "i"})
    assert "does not go with KubernetesProvider" in str(refused.value)


def test_no_container_by_default_and_where_there_is_none():
    empty = {"container_type": None, "container_uri": None, "container_cmd_options": None}
    assert container_settings.container(read(empty)) is None
    assert container_settings.container(read({"type": "ThreadPoolEngine"})) is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (("dokcer", "i", ""), "engine.container_type 'dokcer' is unknown; did you mean 'docker'"),
        (("docker", "", ""), "engine.container_uri is missing: container_type docker needs"),
        (("podman", "--privileged", ""), "engine.container_uri '--privileged' is no image"),
        (("podman", "a b", ""), "is no image: it is one word"),
        (("podman", "a", "-e 'x"), "container_cmd_options cannot be split into words"),
        (("", "a", ""), "engine.container_type is missing"),
        (("", "", "-v a:b"), "engine.container_type is missing"),
        (("custom", "", ""), "it must have {EXECUTOR_LAUNCH_CMD}"),
        (("custom", "", "run {EXECUTOR_RUNDIR}"), "it must have {EXECUTOR_LAUNCH_CMD}"),
        (("custom", "", "{EXECUTOR_LAUNCH_CMD}"), "the command that starts the container is"),
    ],
)
def test_settings_that_do_not_fit_together(section, words):
    names = ("container_type", "container_uri", "container_cmd_options")
    with pytest.raises(SettingsError) as refused:
        read(dict(zip(names, section, strict=True)))
    assert words in str(refused.value)


def test_what_a_jobs_environment_lacks():
    alice = Account("alice", "/home/alice", "")
    assert completed({"SHELL": "/bin/zsh", "HOME": "", "HOSTNAME": "login1"}, alice, "n1") == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOSTNAME": "n1",
    }


OUTSIDE = {
    "HOSTNAME": "n1", "HOME": "/home/a", "USER": "a", "LOGNAME": "a", "SHELL": "/bin/zsh",
    "PATH": "/host/bin",
}  # fmt: skip


def test_inside_the_path_is_the_images_and_a_home_that_is_not_shown_is_the_working_directory():
    inside = {"PATH": "/opt/conda/bin", "HOME": "/root", "HOSTNAME": "3fa"}
    assert in_container(OUTSIDE, inside, lambda _: False, "/w") == {
        "HOSTNAME": "n1",
        "HOME": "/w",
        "USER": "a",
        "LOGNAME": "a",
        "SHELL": "/bin/sh",
    }


def test_inside_what_the_container_shows_is_kept_and_a_path_is_found():
    found = in_container(OUTSIDE, {}, lambda _: True, "/w")
    assert found == {**OUTSIDE, "PATH": "/usr/local/bin:/usr/bin:/bin"}
