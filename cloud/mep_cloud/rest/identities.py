"""Who somebody is, in the words of Globus Auth: userinfo, and looking identities up."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from mep.wire import answers, codes
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.rest.bodies import answer, relay_of, user_of

MOST: Final = 100
"""Identities in one look-up."""
_NAME: Final = 1024

Record = dict[str, str]


async def userinfo(request: Request) -> Response:
    """``GET /v2/oauth2/userinfo``: whoever asks, with all linked identities."""
    user = await user_of(request)
    own = [_shown(each) for each in relay_of(request).provider.identity_set(user)]
    first = own[0]
    told = answers.UserInfo(
        sub=user.id,
        preferred_username=user.username,
        name=first.name,
        email=first.email,
        organization=first.organization,
        identity_provider=first.identity_provider,
        identity_provider_display_name=first.identity_provider_display_name,
        last_authentication=user.signed_in,
        identity_set=own,
    )
    return answer(request, told)


async def identities(request: Request) -> Response:
    """``GET /v2/api/identities?ids=`` or ``?usernames=``: those that this relay knows of a list."""
    user = await user_of(request)
    ids, names = _asked(request, "ids"), _asked(request, "usernames")
    if (ids is None) == (names is None):
        message = "Give ids=... or usernames=..., separated by commas."
        raise Refusal(400, codes.INVALID_REQUEST, message)
    ids = None if ids is None else [checked(each, "identity id") for each in ids]
    wanted = set(ids or ())
    wanted |= {each.lower() for each in names or ()}
    relay = relay_of(request)
    own = relay.provider.identity_set(user)
    known = await relay.store.users.among(ids or (), names or ())
    others = [relay.provider.identity_set(each)[0] for each in known]
    key = "username" if ids is None else "id"
    found: dict[str, answers.Identity] = {}
    for record in (*own, *others):
        if record[key].lower() in wanted and record["id"] not in found:
            found[record["id"]] = _shown(record, private=record not in own and not user.is_admin)
    return answer(request, answers.Identities(identities=list(found.values())))


def _asked(request: Request, name: str) -> list[str] | None:
    """A list in the query; None where there is none.

    Raises:
        Refusal: 400, too long.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    asked = [each.strip() for each in text.split(",") if each.strip()]
    if len(asked) > MOST or any(len(each) > _NAME or not each.isprintable() for each in asked):
        message = f"{name} is a list of at most {MOST} entries."
        raise Refusal(400, codes.INVALID_REQUEST, message)
    return asked


def _shown(record: Record, *, private: bool = False) -> answers.Identity:
    return answers.Identity(
        id=record["id"],
        sub=record.get("sub", record["id"]),
        username=record["username"],
        identity_provider=record["identity_provider"],
        identity_provider_display_name=record.get("identity_provider_display_name", ""),
        name=record.get("name"),
        email=None if private else record.get("email"),
        organization=record.get("organization"),
        status=record.get("status", "used"),
    )
