"""A browser: who is signed in, and whether a form that it sends is one of ours.

Two cookies. ``mep_form`` is random, and every form repeats a digest of it (the guard), so that
another site cannot send one. ``mep_session`` names a session of :class:`mep_cloud.store.logins`.
"""

import hashlib
import hmac
import secrets
import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from mep_cloud.auth import digest
from mep_cloud.errors import Refusal
from mep_cloud.rest.bodies import is_https, raw, relay_of
from mep_cloud.store.records import Login, User

SESSION: Final = "mep_session"
FORM: Final = "mep_form"
SESSION_S: Final = 3600
COOKIE: Final = 32
"""Letters of a form cookie of ours, at least."""
_BODY: Final = 16 * 1024


class Foreign(Exception):
    """A form that no page of ours sent."""


def guard_of(request: Request) -> tuple[str, str]:
    """The browser's form cookie (a new one where it has none), and the guard for its forms."""
    cookie = request.cookies.get(FORM, "")
    if len(cookie) < COOKIE:
        cookie = secrets.token_urlsafe(32)
    return cookie, _guard(cookie)


async def form_of(request: Request) -> dict[str, str]:
    """A form of ours.

    Raises:
        Foreign: it came from elsewhere, or is none.
    """
    try:
        body = (await raw(request, _BODY)).decode("utf-8")
        fields = parse_qs(body, keep_blank_values=True, max_num_fields=20)
    except (Refusal, ValueError) as error:
        raise Foreign from error
    form = {name: values[0] for name, values in fields.items()}
    cookie = request.cookies.get(FORM, "")
    ours = hmac.compare_digest(_guard(cookie).encode(), form.get("guard", "").encode())
    if len(cookie) < COOKIE or not ours or _is_elsewhere(request):
        raise Foreign
    return form


async def signed_in(request: Request) -> tuple[User, Login] | None:
    """Who uses this browser."""
    cookie = request.cookies.get(SESSION)
    if not cookie:
        return None
    relay = relay_of(request)
    found = await relay.store.logins.signed_in(digest(cookie), time.time())
    return found if found is not None and relay.others.knows(found[0]) else None


async def sign_in(request: Request, response: Response, user: User) -> None:
    """Begin a session, with a name that nobody has seen before."""
    cookie, now = secrets.token_urlsafe(32), time.time()
    login = Login(user.id, now if user.signed_in is None else user.signed_in, _proved(user))
    await relay_of(request).store.logins.sign_in(digest(cookie), login, now + SESSION_S, now)
    put(request, response, SESSION, cookie)


def _proved(user: User) -> str | None:
    """The identity that signed in last, where their provider tells of several."""
    return max(user.proofs, key=user.proofs.__getitem__) if user.proofs else None


async def sign_out(request: Request, response: Response) -> None:
    """End it."""
    await relay_of(request).store.logins.sign_out(digest(request.cookies.get(SESSION, "")))
    response.delete_cookie(SESSION)


def put(request: Request, response: Response, name: str, value: str) -> None:
    """A cookie that scripts cannot read and other sites' forms do not bring along."""
    response.set_cookie(
        name,
        value,
        max_age=SESSION_S,
        httponly=True,
        samesite="lax",
        secure=is_https(request),
    )


def _guard(cookie: str) -> str:
    return hashlib.sha256(b"mep-form-1\0" + cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _is_elsewhere(request: Request) -> bool:
    """Browsers say which site a form was on; newer ones in words that no proxy changes."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")
