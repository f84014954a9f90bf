"""The Kubernetes interface that Parsl's provider is given.

It remembers what Parsl passes over: Parsl takes a pod that cannot be read for one that goes on as
before, whether it is gone or the interface does not answer. And it gives each pod what Parsl knows
nothing of: a Secret with the block's settings, of the pod's own name, which comes and goes with it.
"""

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mep.endpoint.providers.delivery import POOL_FILE, SECRET_DIRECTORY

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 30.0
_GONE: Final = 404
_VOLUME: Final = "mep-block"
_ROOT_ALONE: Final = 0o400
_ANY_USER: Final = 0o444
"""The kubelet makes files root's, and a pod with another user has no more than that one."""


class PodError(Exception):
    """Kubernetes refuses; the message is in its own words."""


class Pods:
    """A ``kubernetes.client.CoreV1Api``, as far as Parsl uses it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._settings: Path | None = None
        self._noted: Callable[[str], None] = _ignore
        self.missing: set[str] = set()
        """Pods that there are none of."""
        self.failure = ""
        """Why the interface did not answer; empty: it did."""

    def begin(self) -> None:
        """Forget the answers to earlier questions."""
        self.missing.clear()
        self.failure = ""

    def prepare(self, settings: Path | None, noted: Callable[[str], None]) -> None:
        """Of the pod that is created next.

        Args:
            settings: the file for its Secret; None: it needs none.
            noted: is told its name before anything of it exists.
        """
        self._settings, self._noted = settings, noted

    def create_namespaced_pod(self, *, namespace: str, body: Any) -> Any:
        """As the client's. Where it fails nothing stays.

        Raises:
            PodError: its Secret cannot be made.
        """
        name = body.metadata.name
        self._noted(name)
        try:
            if self._settings is not None:
                self._create_secret(name, namespace, self._settings)
                _mount(body.spec, name)
            pod = self._client.create_namespaced_pod(
                namespace=namespace, body=body, _request_timeout=TIMEOUT_S
            )
        except Exception:
            self._take_back(name, namespace)
            raise
        if self._settings is not None:
            self._tie(name, namespace, pod.metadata.uid)
        return pod

    def read_namespaced_pod(self, name: str, namespace: str) -> Any:
        """As the client's."""
        try:
            return self._client.read_namespaced_pod(name, namespace, _request_timeout=TIMEOUT_S)
        except Exception as error:
            if _is_gone(error):
                self.missing.add(name)
            else:
                self.failure = f"{type(error).__name__}: {error}"
            raise

    def delete_namespaced_pod(self, *, name: str, namespace: str, body: Any = None) -> Any:
        """As the client's, with its Secret; of a pod that is gone, it is done."""
        answer: Any = _Nothing()
        try:
            answer = self._client.delete_namespaced_pod(
                name=name, namespace=namespace, body=body, _request_timeout=TIMEOUT_S
            )
        except Exception as error:
            if not _is_gone(error):
                raise
        self._delete_secret(name, namespace)
        return answer

    def _create_secret(self, name: str, namespace: str, settings: Path) -> None:
        secret = {
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "mep"}},
            "type": "Opaque",
            "immutable": True,
            "data": {POOL_FILE: base64.b64encode(settings.read_bytes()).decode("ascii")},
        }
        try:
            self._client.create_namespaced_secret(namespace, secret, _request_timeout=TIMEOUT_S)
        except Exception as error:
            raise PodError(
                f"the Secret with the block's settings cannot be made: {_words(error)}"
            ) from error

    def _tie(self, name: str, namespace: str, uid: str) -> None:
        """Kubernetes removes the Secret with the pod, should no endpoint do so."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        try:
            self._client.patch_namespaced_secret(
                name,
                namespace,
                {"metadata": {"ownerReferences": [owner]}},
                _request_timeout=TIMEOUT_S,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the pod is up
            log.warning("the Secret %s goes with no pod of itself: %s", name, _words(error))

    def _delete_secret(self, name: str, namespace: str) -> None:
        try:
            self._client.delete_namespaced_secret(name, namespace, _request_timeout=TIMEOUT_S)
        except Exception as error:
            if not _is_gone(error):
                raise PodError(f"the Secret {name} cannot be removed: {_words(error)}") from error

    def _take_back(self, name: str, namespace: str) -> None:
        """A request that was not answered may have been obeyed."""
        try:
            self.delete_namespaced_pod(name=name, namespace=namespace)
        except Exception as error:  # noqa: BLE001 - the first failure is told
            log.warning("what there is of pod %s in %s stays: %s", name, namespace, _words(error))


def _mount(spec: Any, secret: str) -> None:
    """Show the Secret to the pod's container, read-only, in a file of its own."""
    (container,) = spec.containers
    user = container.security_context.run_as_user if container.security_context else None
    source = {"secretName": secret, "defaultMode": _ANY_USER if user else _ROOT_ALONE}
    spec.volumes = [*(spec.volumes or ()), {"name": _VOLUME, "secret": source}]
    mount = {"name": _VOLUME, "mountPath": SECRET_DIRECTORY, "readOnly": True}
    container.volume_mounts = [*(container.volume_mounts or ()), mount]


def _is_gone(error: Exception) -> bool:
    return getattr(error, "status", None) == _GONE


def _words(error: Exception) -> str:
    """What Kubernetes says, without the request."""
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{getattr(error, 'status', None) or error} {getattr(error, 'reason', '')}".strip()


def _ignore(_name: str) -> None:
    pass


class _Nothing:
    status = "gone before"
