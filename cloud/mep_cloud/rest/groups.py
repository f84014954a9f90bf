"""Groups of people: made by anybody, changed by their managers, shown to their members."""

import time
from dataclasses import asdict
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import answers, codes
from mep.wire.rest import NewGroup, NewMember
from mep_cloud import access
from mep_cloud.errors import LastManager, Refusal, TooManyGroups
from mep_cloud.identity.person import group_id
from mep_cloud.ids import checked, new_id
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.groups import MOST
from mep_cloud.store.records import GroupRecord, Role, User

_NAME: Final = 128
_DESCRIPTION: Final = 1024
_ROLES: Final[dict[str, Role]] = {"member": "member", "manager": "manager"}


async def create(request: Request) -> Response:
    """``POST /v3/groups``: whoever makes a group is its first manager."""
    user = await user_of(request)
    relay = relay_of(request)
    wanted = await decoded(request, NewGroup)
    name, description = wanted.name.strip(), wanted.description.strip()
    if not 0 < len(name) <= _NAME or len(description) > _DESCRIPTION:
        raise _malformed(f"A group's name has 1 to {_NAME} characters.")
    if not name.isprintable() or not description.isprintable():
        raise _malformed("A group's name and description have printable characters only.")
    group = GroupRecord(new_id(), name, description, time.time())
    try:
        await relay.store.groups.add(group, user.id)
    except TooManyGroups:
        raise _too_many(user) from None
    relay.gatekeeper.forget_all()
    return answer(request, await _described(request, group, "manager"))


async def listing(request: Request) -> Response:
    """``GET /v3/groups``: those that the caller is in, their identity provider's among them."""
    user = await user_of(request)
    mine = await relay_of(request).store.groups.of(user.id)
    own = [answers.Group(**asdict(group), role=role, provider=None) for group, role in mine]
    return answer(request, [*own, *_claimed(request, user)])


async def describe(request: Request) -> Response:
    """``GET /v3/groups/{id}``: with its members, for its members."""
    user = await user_of(request)
    for claimed in _claimed(request, user):
        if claimed.id == checked(request.path_params["id"], "group id"):
            told = msgspec.structs.asdict(claimed)
            return answer(request, answers.GroupDescription(**told, members=[]))
    group, role = await _group(request, user)
    access.check_sees_group(group, role, user)
    return answer(request, await _described(request, group, role))


async def delete(request: Request) -> Response:
    """``DELETE /v3/groups/{id}``: what was shared with it is its owner's alone again."""
    user = await user_of(request)
    group, role = await _group(request, user)
    access.check_manages_group(group, role, user)
    relay = relay_of(request)
    await relay.store.groups.remove(group.id)
    relay.gatekeeper.forget_all()
    return answer(request, {"result": 302})


async def add(request: Request) -> Response:
    """``POST /v3/groups/{id}/members``: add somebody, or change their role."""
    user = await user_of(request)
    group, role = await _group(request, user)
    access.check_manages_group(group, role, user)
    wanted = await decoded(request, NewMember)
    if wanted.role not in _ROLES:
        raise _malformed(f"{wanted.role[:40]!r} is no role; it is 'member' or 'manager'.")
    relay = relay_of(request)
    person = await _person(request, wanted.user)
    try:
        there = await relay.store.groups.put(group.id, person.id, _ROLES[wanted.role])
    except LastManager:
        raise _last_manager(group) from None
    except TooManyGroups:
        raise _too_many(person) from None
    if not there:
        raise access.no_group(group.id)
    relay.gatekeeper.forget_all()
    return answer(request, await _described(request, group, role))


async def remove(request: Request) -> Response:
    """``DELETE /v3/groups/{id}/members/{user}``: by a manager, or to leave it oneself."""
    user = await user_of(request)
    group, role = await _group(request, user)
    access.check_sees_group(group, role, user)
    relay = relay_of(request)
    name = request.path_params["user"]
    if name not in (user.id, user.username):
        access.check_manages_group(group, role, user)
    person = await _person(request, name)
    try:
        found = await relay.store.groups.drop(group.id, person.id)
    except LastManager:
        raise _last_manager(group) from None
    if not found:
        message = f"{person.username} is not in group {group.name}."
        raise Refusal(404, codes.NOT_FOUND, message)
    relay.gatekeeper.forget_all()
    return answer(request, {"result": 302})


async def _group(request: Request, user: User) -> tuple[GroupRecord, Role | None]:
    group_id = checked(request.path_params["id"], "group id")
    found = await relay_of(request).store.groups.get(group_id, user.id)
    if found is None:
        raise access.no_group(group_id)
    return found


async def _person(request: Request, name: str) -> User:
    """The user of that id or name.

    Raises:
        Refusal: 404.
    """
    person = await relay_of(request).store.users.find(name) if _storable(name) else None
    if person is None:
        message = (
            f"This relay knows no user {name[:80]!r}. Give the id or the whole username that "
            "`mep whoami` shows to them."
        )
        raise Refusal(404, codes.NOT_FOUND, message)
    return person


def _storable(name: str) -> bool:
    return name.isprintable() and len(name) <= 1024


async def _described(
    request: Request, group: GroupRecord, role: Role | None
) -> answers.GroupDescription:
    members = await relay_of(request).store.groups.members(group.id)
    shown = [answers.GroupMember(**asdict(member)) for member in members]
    return answers.GroupDescription(**asdict(group), role=role, provider=None, members=shown)


def _claimed(request: Request, user: User) -> list[answers.Group]:
    """The groups that the caller's identity provider tells of, by name."""
    (identity, *_) = relay_of(request).provider.identity_set(user)
    title = identity.get("identity_provider_display_name", "")
    return [
        answers.Group(
            id=group_id(user.provider, name),
            name=name,
            description=f"of {title}",
            created=None,
            role="member",
            provider=user.provider,
        )
        for name in sorted(user.claimed)
        if user.provider is not None
    ]


def _last_manager(group: GroupRecord) -> Refusal:
    message = (
        f"Group {group.name} has one manager. Make somebody else a manager first, or delete it."
    )
    return Refusal(409, codes.INVALID_REQUEST, message)


def _too_many(person: User) -> Refusal:
    message = (
        f"{person.username} is in {MOST} groups, as many as one may be in. They leave one with "
        "`mep groups remove`, or its managers delete it."
    )
    return Refusal(409, codes.INVALID_REQUEST, message)


def _malformed(message: str) -> Refusal:
    return Refusal(422, codes.INVALID_REQUEST, message)
