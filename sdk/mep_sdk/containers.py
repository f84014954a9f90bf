"""A registered container, as the options of an endpoint's template that say to run in it.

Where tasks run is the endpoint's business: its template has the variables ``container_type`` and
``container_uri``, or its administrator does not allow containers.
"""

import threading
from typing import TYPE_CHECKING, Any, Final

from mep.wire import codes
from mep_sdk.errors import ConfigurationRefused

if TYPE_CHECKING:
    from mep_sdk.client import Client

VARIABLES: Final = ("container_type", "container_uri")


class Containers:
    """Options by endpoint and container; each is asked for once. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def options(self, client: "Client", endpoint_id: str, container_id: str) -> dict[str, str]:
        """What ``user_endpoint_config`` gets besides.

        Raises:
            NotFound: there is no such container, or no such endpoint.
            ConfigurationRefused: the endpoint's template knows no containers.
        """
        key = (endpoint_id, container_id)
        with self._lock:
            if key not in self._known:
                container = client.get_container(container_id)
                told = client.get_endpoint_metadata(endpoint_id)
                _check(endpoint_id, (told.get("metadata") or {}).get("user_config_template"))
                values = (container["container_type"], container["location"])
                self._known[key] = dict(zip(VARIABLES, values, strict=True))
            return self._known[key]


def _check(endpoint_id: str, template: Any) -> None:
    missing = [name for name in VARIABLES if name not in str(template or "")]
    if missing:
        raise ConfigurationRefused(
            f"endpoint {endpoint_id} runs no containers of its users' choice: its template has no "
            f"{' and no '.join(missing)}; ask its administrator, or leave container_id out",
            codes.OPTIONS_REFUSED,
        )
