"""Groups over REST: what is shared with them, and who may change them."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import requests
from mep_cloud.store import Store
from mep_cloud.store.records import GroupRecord
from relay_driver import BOUND_S, Api, relay_cli, run_cli


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.fixture
def group(running: Any) -> str:
    made = running.alice.ok("POST", "/v3/groups", json={"name": "g", "description": "d"})
    return str(made["id"])


def id_of(api: Api) -> str:
    return str(api.ok("GET", "/v3/whoami")["sub"])


def test_a_group_of_its_maker(running: Any, group: str) -> None:
    shown = running.alice.ok("GET", f"/v3/groups/{group}")
    (member,) = shown["members"]
    assert (shown["name"], shown["description"], shown["role"]) == ("g", "d", "manager")
    assert (member["username"], member["role"]) == ("alice@example.org", "manager")
    assert group in [each["id"] for each in running.alice.ok("GET", "/v3/groups")]
    assert group not in [each["id"] for each in running.bob.ok("GET", "/v3/groups")]


def test_membership_opens_a_function_and_its_end_closes_it(running: Any, group: str) -> None:
    endpoint = running.admin.endpoint()["endpoint_id"]
    function = running.alice.function(group=group)
    path, body = f"/v3/endpoints/{endpoint}/submit", {"tasks": {function: ["x"]}}
    members = f"/v3/groups/{group}/members"
    assert refusal(running.bob("POST", path, json=body)) == (403, "FUNCTION_ACCESS_FORBIDDEN")
    running.alice.ok("POST", members, json={"user": "bob@relay.local"})
    running.bob.ok("POST", path, json=body)
    running.alice.ok("DELETE", f"{members}/bob@relay.local")
    assert refusal(running.bob("POST", path, json=body)) == (403, "FUNCTION_ACCESS_FORBIDDEN")
    running.alice.ok("POST", members, json={"user": id_of(running.bob)})
    running.bob.ok("POST", path, json=body)
    running.alice.ok("DELETE", f"/v3/groups/{group}")
    assert refusal(running.bob("POST", path, json=body)) == (403, "FUNCTION_ACCESS_FORBIDDEN")
    running.alice.ok("POST", path, json=body)


def test_managers(running: Any, group: str) -> None:
    members = f"/v3/groups/{group}/members"
    bob = id_of(running.bob)
    running.alice.ok("POST", members, json={"user": bob})
    assert refusal(running.bob("POST", members, json={"user": bob, "role": "manager"})) == (
        403,
        "GROUP_ACCESS_FORBIDDEN",
    )
    # The last manager stays.
    me = id_of(running.alice)
    assert running.alice("DELETE", f"{members}/{me}").status_code == 409
    assert running.alice("POST", members, json={"user": me}).status_code == 409
    running.alice.ok("POST", members, json={"user": bob, "role": "manager"})
    running.bob.ok("POST", members, json={"user": me, "role": "member"})
    running.alice.ok("DELETE", f"{members}/{me}")  # anybody may leave
    assert refusal(running.alice("GET", f"/v3/groups/{group}")) == (404, "GROUP_NOT_FOUND")


@pytest.mark.parametrize(
    "body", [{"name": ""}, {"name": "a\nb"}, {"name": "x" * 129}, {"name": "x", "description": 1}]
)
def test_bad_groups(running: Any, body: Any) -> None:
    assert running.alice("POST", "/v3/groups", json=body).status_code == 422


def test_bad_members(running: Any, group: str) -> None:
    members = f"/v3/groups/{group}/members"
    response = running.alice("POST", members, json={"user": "bob@relay.local", "role": "king"})
    assert response.status_code == 422
    assert running.alice("POST", members, json={"user": "\x00"}).status_code == 404
    response = running.alice("DELETE", f"{members}/bob@relay.local")
    assert refusal(response) == (404, "NOT_FOUND")


def test_a_function_is_shared_with_a_group_of_ones_own_alone(running: Any, group: str) -> None:
    body = {"function_name": "f", "function_code": "x", "group": group}
    assert refusal(running.bob("POST", "/v3/functions", json=body)) == (404, "GROUP_NOT_FOUND")


def test_an_endpoint_is_found_by_whom_it_lists(running: Any, group: str) -> None:
    endpoint = running.admin.endpoint(visible_to=[group])["endpoint_id"]

    def finds(api: Api) -> bool:
        found = api.ok("GET", "/v2/endpoints", params={"role": "any"})
        return endpoint in [each["uuid"] for each in found]

    assert finds(running.admin)
    assert finds(running.alice)
    assert not finds(running.bob)
    running.alice.ok("POST", f"/v3/groups/{group}/members", json={"user": "bob@relay.local"})
    assert finds(running.bob)


def test_the_operator_alone_makes_an_endpoint_public(running: Any) -> None:
    data = running.relay.data
    quiet = running.admin.endpoint()["endpoint_id"]
    wishes = running.admin.endpoint(public=True)["endpoint_id"]
    done = run_cli("endpoint", "publish", quiet, "--data", data)
    assert done.returncode == 1
    assert "public: true" in done.stderr

    def found() -> list[str]:
        listed = running.bob.ok("GET", "/v2/endpoints", params={"role": "any"})
        return [each["uuid"] for each in listed if each["public"]]

    assert wishes not in found()
    relay_cli("endpoint", "publish", wishes, "--data", data)
    assert wishes in found()
    relay_cli("endpoint", "unpublish", wishes, "--data", data)
    assert wishes not in found()
    relay_cli("endpoint", "publish", wishes, "--data", data)
    # A registration that no longer wishes it takes it back, for good.
    running.admin.ok("PUT", f"/v3/endpoints/{wishes}", json={"endpoint_name": "x"} | MULTI)
    running.admin.ok("PUT", f"/v3/endpoints/{wishes}", json={"endpoint_name": "x"} | PUBLIC)
    assert wishes not in found()


MULTI = {"multi_user": True}
PUBLIC = {"multi_user": True, "public": True}


def test_named_admins(running: Any) -> None:
    bob = id_of(running.bob)
    endpoint = running.admin.endpoint(admins=[bob])["endpoint_id"]
    listed = running.bob.ok("GET", "/v2/endpoints", params={"role": "any"})
    assert endpoint in [each["uuid"] for each in listed]
    # The answer to a registration holds the grant key, whatever is registered.
    for wanted in (True, False):
        body = {"endpoint_name": "x", "multi_user": wanted}
        refused = running.bob("PUT", f"/v3/endpoints/{endpoint}", json=body)
        assert refusal(refused) == (403, "ADMIN_REQUIRED")
    running.bob.ok("DELETE", f"/v2/endpoints/{endpoint}")
    body = {"endpoint_name": "x", "admins": ["bob"]}
    assert running.alice("POST", "/v3/endpoints", json=body).status_code == 400


def test_nobody_is_put_into_more_groups_than_a_look_up_takes(running: Any) -> None:
    data = running.relay.data
    name = relay_cli("user", "add", f"u-{uuid.uuid4()}", "--data", data)["username"]
    token = relay_cli("token", "create", name, "--data", data)["token"]
    person = Api(running.url, token)

    async def fill() -> None:
        async with Store(data / "relay.sqlite3") as store:
            group = partial(GroupRecord, name="crowd", description="", created=1.0)
            made = [group(id=str(uuid.uuid4())) for _ in range(999)]
            await asyncio.gather(*(store.groups.add(each, id_of(person)) for each in made))

    asyncio.run(fill())
    (first, second) = (running.bob.ok("POST", "/v3/groups", json={"name": n})["id"] for n in "ab")
    running.bob.ok("POST", f"/v3/groups/{first}/members", json={"user": name})
    more = running.bob("POST", f"/v3/groups/{second}/members", json={"user": name})
    assert refusal(more) == (409, "REQUEST_MALFORMED")
    assert person("POST", "/v3/groups", json={"name": "own"}).status_code == 409
    # Where they are already, their role may change, and they may leave.
    body = {"user": name, "role": "manager"}
    running.bob.ok("POST", f"/v3/groups/{first}/members", json=body)
    assert person("GET", "/v2/endpoints", params={"role": "any"}).status_code == 200
    person.ok("DELETE", f"/v3/groups/{first}/members/{name}")
    running.bob.ok("POST", f"/v3/groups/{second}/members", json={"user": name})
    person.session.close()


def test_an_approved_id_that_is_registered_twice_at_once(running: Any) -> None:
    endpoint = str(uuid.uuid4())
    relay_cli("endpoint", "approve", endpoint, "alice@example.org", "--data", running.relay.data)

    def register(_: int) -> int:
        with requests.Session() as session:
            headers = {"Authorization": f"Bearer {running.alice.token}"}
            where = f"{running.url}/v3/endpoints/{endpoint}"
            body = {"endpoint_name": "x"}
            return session.put(where, json=body, headers=headers, timeout=BOUND_S).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(register, range(8)))
    assert statuses <= {200, 409}
    assert 200 in statuses
    running.alice.ok("PUT", f"/v3/endpoints/{endpoint}", json={"endpoint_name": "x"})


def test_a_single_user_endpoint_is_shown_to_nobody_else(running: Any) -> None:
    def found() -> list[str]:
        listed = running.bob.ok("GET", "/v2/endpoints", params={"role": "any"})
        return [each["uuid"] for each in listed]

    own = running.alice.endpoint(multi_user=False, visible_to=[id_of(running.bob)])["endpoint_id"]
    assert own not in found()
    public = running.admin.endpoint(public=True)["endpoint_id"]
    relay_cli("endpoint", "publish", public, "--data", running.relay.data)
    assert public in found()
    body = {"endpoint_name": "x", "multi_user": False, "public": True}
    running.admin.ok("PUT", f"/v3/endpoints/{public}", json=body)
    assert public not in found()
    # The operator's word was for what it was then.
    running.admin.ok("PUT", f"/v3/endpoints/{public}", json=body | MULTI)
    assert public not in found()


def test_a_function_bound_to_an_endpoint_runs_there_alone(running: Any) -> None:
    here, there = (running.admin.endpoint()["endpoint_id"] for _ in range(2))
    function = running.alice.function(ha_endpoint_id=here)
    running.alice.submit(here, function, ["x"])
    body = {"tasks": {function: ["x"]}}
    response = running.alice("POST", f"/v3/endpoints/{there}/submit", json=body)
    assert refusal(response) == (403, "FUNCTION_NOT_PERMITTED")
