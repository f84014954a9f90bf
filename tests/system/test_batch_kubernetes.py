"""KubernetesProvider against an interface that answers as Kubernetes' does."""

import base64
import json
import logging
import select
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_harness import LIMIT_S, Harness, until
from pod_processes import PodProcesses
from test_runtime_nodes import hidden

from mep.endpoint.engines.provider_settings import read_provider
from mep.endpoint.providers.batch import BatchProvider
from mep.endpoint.providers.records import Record, Records
from mep.endpoint.runtime.runtime import Runtime

pytest.importorskip("kubernetes", reason="needs the Python package kubernetes")

KEY = "thekeyofthisblockalone"
MOUNTED = "/var/run/secrets/mep"
WHERE = """
def run(path):
    import os
    return os.environ["MEP_TEST_POD"], os.path.exists(path), os.getcwd()
"""


class FakeCluster(ThreadingHTTPServer):
    """Pods and Secrets of one namespace; pods are in the state that the test gives them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pods: dict[str, dict] = {}
        self.secrets: dict[str, dict] = {}
        self.asked: list[str] = []
        """What was asked for, but for questions: ``POST pods``."""
        self.refuse: dict[str, str] = {}
        """Why such a request is refused."""
        self.phase = "Pending"
        self.broken = False
        """Answers everything with an error of its own."""
        self.processes: PodProcesses | None = None
        """Runs the pods."""

    def phase_of(self, name: str) -> str:
        return self.processes.phase(name) if self.processes else self.phase


class _Handler(BaseHTTPRequestHandler):
    server: FakeCluster

    def do_POST(self) -> None:
        made = self._body()
        if self._refused():
            return
        name = made["metadata"]["name"]
        made["metadata"]["uid"] = f"uid-of-{name}"
        self._kept()[name] = made
        if self.server.processes and self._kept() is self.server.pods:
            self.server.processes.start(made, self.server.secrets)
        self._answer(201, made)

    def do_GET(self) -> None:
        pod = self.server.pods.get(self._name())
        if self.server.broken:
            self._answer(503, {"kind": "Status", "message": "etcd is down"})
        elif pod is None:
            self._answer(404, {"kind": "Status", "message": "not found"})
        else:
            self._answer(200, {**pod, "status": {"phase": self.server.phase_of(self._name())}})

    def do_PATCH(self) -> None:
        change = self._body()
        if not self._refused():
            found = self._kept()[self._name()]
            found["metadata"].update(change["metadata"])
            self._answer(200, found)

    def do_DELETE(self) -> None:
        self._body()
        if self._refused():
            return
        found = self._kept().pop(self._name(), None)
        if self.server.processes and found and self._kept() is self.server.pods:
            self.server.processes.end(self._name())
        self._answer(200 if found else 404, found or {"kind": "Status"})

    def _body(self) -> dict:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")

    def _refused(self) -> bool:
        kind = "secrets" if self._kept() is self.server.secrets else "pods"
        asked = f"{self.command} {kind}"
        self.server.asked.append(asked)
        why = self.server.refuse.get(asked)
        if why is not None:
            self._answer(403, {"kind": "Status", "message": why})
        return why is not None

    def _kept(self) -> dict[str, dict]:
        return self.server.secrets if "/secrets" in self.path else self.server.pods

    def _name(self) -> str:
        return self.path.partition("?")[0].rpartition("/")[2]

    def _answer(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Iterator[FakeCluster]:
    fake = FakeCluster()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{fake.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield fake
    fake.shutdown()
    thread.join()
    fake.server_close()


PROVIDER = {
    "type": "KubernetesProvider",
    "image": "registry.example.org/mep:1",
    "namespace": "tasks",
    "worker_init": "echo hello",
}


@pytest.fixture
def home(tmp_path) -> Path:
    """The user endpoint's directory, with the file that a block's settings are in."""
    block = tmp_path / "endpoint" / "blocks" / "0"
    block.mkdir(mode=0o700, parents=True)
    (block / "pool.json").write_text(json.dumps({"connect": {"secret_key": KEY}}))
    return tmp_path / "endpoint"


@pytest.fixture
def provide(home, tmp_path, cluster) -> Iterator[Callable[..., BatchProvider]]:
    """Makes providers, as processes of one endpoint do after each other."""
    made = []

    def make(**more: Any) -> BatchProvider:
        settings = read_provider({**PROVIDER, **more})
        runtime = Runtime(str(tmp_path / "runtime"))
        environment = {"PATH": "/usr/bin:/bin"}
        made.append(BatchProvider(settings, 1, str(home), environment, "f", runtime))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def provider(provide) -> BatchProvider:
    return provide()


def start(provider: BatchProvider, home: Path) -> None:
    provider.start("0", ["mep-pool", str(home / "blocks/0/pool.json")], {})


def becomes(provider: BatchProvider, wanted: str) -> None:
    poll = select.poll()
    poll.register(provider.descriptors()[0], select.POLLIN)
    while (now := ",".join(one.state for one in provider.states())) != wanted:
        assert poll.poll(LIMIT_S * 1000), f"{now} never became {wanted}"
        assert provider.ended() == []


def end_of(provider: BatchProvider) -> str:
    poll = select.poll()
    poll.register(provider.descriptors()[0], select.POLLIN)
    while True:
        assert poll.poll(LIMIT_S * 1000), "never ended"
        if ended := provider.ended():
            return ended[0].how


def test_a_pod_from_creation_to_end(cluster, provider, home):
    start(provider, home)
    becomes(provider, "pending")
    (pod,) = cluster.pods.values()
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example.org/mep:1"
    assert "echo hello" in container["args"][1]
    assert f"exec mep-pool {MOUNTED}/pool.json " in container["args"][1]
    cluster.phase = "Running"
    provider.look("0")
    becomes(provider, "running")
    cluster.phase = "Succeeded"
    provider.look("0")
    assert "(COMPLETED)" in end_of(provider)
    until(lambda: not cluster.pods and not cluster.secrets, "the pod and its Secret removed")


def test_an_interface_that_does_not_answer_ends_nothing(cluster, provider, home):
    cluster.phase = "Running"
    start(provider, home)
    becomes(provider, "running")
    cluster.broken = True
    provider.look("0")
    becomes(provider, "unknown")
    cluster.broken = False
    provider.look("0")
    becomes(provider, "running")


def test_a_pod_that_somebody_deleted(cluster, provider, home):
    cluster.phase = "Running"
    start(provider, home)
    becomes(provider, "running")
    cluster.pods.clear()
    provider.look("0")
    assert "it is no longer in the queue" in end_of(provider)
    assert cluster.secrets == {}


def test_a_pod_is_deleted_with_its_block(cluster, provider, home):
    start(provider, home)
    becomes(provider, "pending")
    provider.kill("0")
    assert "was cancelled" in end_of(provider)
    assert cluster.pods == {}
    assert cluster.secrets == {}


def test_the_settings_are_in_a_secret_and_nowhere_else(cluster, provider, home, caplog):
    caplog.set_level(logging.DEBUG)
    start(provider, home)
    becomes(provider, "pending")
    assert cluster.asked == ["POST secrets", "POST pods", "PATCH secrets"]
    ((name, pod),) = cluster.pods.items()
    (secret,) = cluster.secrets.values()
    told = (home / "blocks/0/pool.json").read_bytes()
    assert {key: base64.b64decode(value) for key, value in secret["data"].items()} == {
        "pool.json": told
    }
    assert secret["immutable"]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": f"uid-of-{name}"}
    (volume,) = pod["spec"]["volumes"]
    assert volume["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o400}
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": MOUNTED, "readOnly": True}
    for key in (KEY, base64.b64encode(KEY.encode()).decode(), secret["data"]["pool.json"]):
        assert key not in json.dumps(pod)
        assert key not in caplog.text
        assert key not in (home / "blocks/0/job.json").read_text()


def test_a_pod_of_another_user_can_read_its_settings_and_has_its_volumes(cluster, provide, home):
    provider = provide(user_id="1000", group_id="1000", persistent_volumes=[["data", "/data"]])
    start(provider, home)
    becomes(provider, "pending")
    (pod,) = cluster.pods.values()
    data, block = pod["spec"]["volumes"]
    assert data["persistentVolumeClaim"] == {"claimName": "data"}
    assert block["secret"]["defaultMode"] == 0o444
    mounts = [one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]]
    assert mounts == ["/data", MOUNTED]


def test_where_the_pod_cannot_be_created_its_secret_goes(cluster, provider, home):
    cluster.refuse["POST pods"] = "exceeded quota: tasks"
    start(provider, home)
    assert "exceeded quota: tasks" in end_of(provider)
    assert cluster.asked == ["POST secrets", "POST pods", "DELETE pods", "DELETE secrets"]
    assert cluster.secrets == {}
    assert not (home / "blocks/0/job.json").exists()


def test_where_no_secret_may_be_made_there_is_no_pod(cluster, provider, home):
    cluster.refuse["POST secrets"] = "User alice cannot create resource secrets"
    start(provider, home)
    assert end_of(provider) == (
        "could not be submitted: the Secret with the block's settings cannot be made: "
        "User alice cannot create resource secrets"
    )
    assert "POST pods" not in cluster.asked
    assert cluster.pods == cluster.secrets == {}


def test_a_secret_that_cannot_be_removed_yet_is_tried_again(cluster, provider, home):
    start(provider, home)
    becomes(provider, "pending")
    cluster.refuse["DELETE secrets"] = "not now"
    provider.kill("0")
    until(lambda: cluster.asked.count("DELETE secrets") > 1, "tried again")
    del cluster.refuse["DELETE secrets"]
    end_of(provider)
    until(lambda: not cluster.secrets, "the Secret removed")


def test_a_pod_of_an_earlier_process_goes_with_its_secret(cluster, provide, home):
    first = provide()
    start(first, home)
    becomes(first, "pending")
    second = provide()
    assert second.adopt() == ["0"]
    second.kill("0")
    assert "was cancelled" in end_of(second)
    assert cluster.pods == cluster.secrets == {}


def test_a_secret_whose_pod_an_earlier_process_did_not_live_to_create(cluster, provide, home):
    cluster.secrets["mep-0.5eed"] = {"metadata": {"name": "mep-0.5eed"}}
    Records(str(home)).write(
        Record("0", "KubernetesProvider", "f", 0.0, "5eed", {"pod_name": "mep-0.5eed"})
    )
    provider = provide()
    assert provider.adopt() == ["0"]
    assert "it is no longer in the queue" in end_of(provider)
    assert cluster.secrets == {}


def test_the_pod_is_on_record_before_anything_of_it_exists(cluster, provider, home):
    seen = []
    record = home / "blocks/0/job.json"
    post = _Handler.do_POST

    class Watching(_Handler):
        def do_POST(self) -> None:
            seen.append(json.loads(record.read_text()))
            post(self)

    cluster.RequestHandlerClass = Watching
    start(provider, home)
    becomes(provider, "pending")
    (name,) = cluster.pods
    assert [one["resource"] for one in seen[:2]] == [{"pod_name": name}] * 2
    assert {one["job_id"] for one in seen} == {name.rpartition(".")[2]}


@pytest.mark.root
def test_tasks_run_in_a_pod_that_sees_nothing_of_the_endpoint(cluster, tmp_path, site_root):
    endpoint = tmp_path / "endpoint"
    endpoint.mkdir(mode=0o700)
    cluster.processes = PodProcesses(site_root, [*hidden(), endpoint, Path("/home")])
    settings = {
        "type": "GlobusComputeEngine",
        "provider": {**PROVIDER, "init_blocks": 1, "max_blocks": 1},
    }
    settings |= {"max_workers_per_node": 1, "address": "127.0.0.1"}

    harness = Harness(endpoint, **settings)
    try:
        pod, seen, place = harness.run_source(WHERE, str(endpoint / "blocks"))
        assert pod in cluster.pods
        assert not seen
        assert not place.startswith(str(endpoint))
    finally:
        harness.engine.close(0)
        cluster.processes.end_all()
    assert cluster.pods == cluster.secrets == {}
    assert not Path.home().joinpath(".mep").exists()
