"""A site as a template sees it."""

import pytest

from mep.endpoint.template.names import Site
from mep.wire.parent import Parent


@pytest.fixture(scope="session")
def site() -> Site:
    return Site(
        parent=Parent(
            endpoint_id="e1",
            endpoint_name="cluster",
            relay_url="https://relay",
            heartbeat_period=12.5,
            settings={"motd": "a: b", "limit": 7},
        ),
        runtime={
            "python": {"version_tuple": [3, 11, 2]},
            "globus_compute_sdk_version": "4.1.0",
            "evil": "x\nengine: {}",
        },
        account={
            "uname": "alice",
            "uid": 1001,
            "gid": 1002,
            "gecos": "Alice\nengine: evil",
            "shell": "/bin/sh",
            "dir": "/home/alice",
            "groups": [1002, 27],
        },
        identity_id="i-1",
        environment={"HOME": "/home/alice", "CORES": "4", "FLAG": "yes"},
    )
