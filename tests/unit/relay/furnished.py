"""What a store must hold before there can be tasks in it."""

from mep_cloud.auth import digest
from mep_cloud.store import Store
from mep_cloud.store.records import EndpointRecord, FunctionRecord, User

from mep.wire.rest import RegisterEndpoint

ALICE = User("alice-id", "alice@relay.local", "", "", "", False, 1.0)


async def furnish(store: Store, owner: User = ALICE, link: str = "link") -> None:
    """Somebody, with a function ``f`` and an endpoint ``e`` whose manager has this token."""
    await store.users.add(owner)
    function = FunctionRecord("f", owner.id, "f", 4, None, False, None, None, "{}", 1.0)
    await store.functions.add(function, b"body")
    await add_endpoint(store, "e", owner, link)


async def add_endpoint(store: Store, name: str, owner: User, link: str) -> None:
    registration = RegisterEndpoint(name, multi_user=True)
    await store.endpoints.add(EndpointRecord(name, owner.id, registration, 1, 1.0), digest(link))
