"""Handlers of the pages; signing in elsewhere is in :mod:`.elsewhere`."""

import time
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mep_cloud import passwords
from mep_cloud.attempts import origin
from mep_cloud.errors import IdentityTaken, NoAnswer
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import relay_of
from mep_cloud.rest.oauth import USER_CODE_LETTERS
from mep_cloud.store.records import User
from mep_cloud.web import browser, html

_OTHER: Final = 303
_CODE: Final = 8


async def login(request: Request) -> Response:
    """``GET /login``."""
    return sign_in_page(request, user_code_of(request.query_params.get("user_code", "")))


async def sign_in(request: Request) -> Response:
    """``POST /login``: by name and password."""
    try:
        form = await browser.form_of(request)
    except browser.Foreign:
        return _foreign()
    user_code, name = user_code_of(form.get("user_code", "")), form.get("username", "").strip()
    username = name if "@" in name else f"{name}@{_domain(relay_of(request))}"
    if not _may_try(request, username):
        message = "Too many tries. Wait five minutes."
        return sign_in_page(request, user_code, message, name, status=429)
    try:
        user = await _person(request, username, form.get("password", ""))
    except NoAnswer as error:
        return sign_in_page(request, user_code, str(error), name, status=503)
    except IdentityTaken as error:
        return sign_in_page(request, user_code, str(error), name, status=401)
    if user is None:
        message = "Unknown user name, or wrong password."
        return sign_in_page(request, user_code, message, name, status=401)
    response = to("/device", user_code)
    await browser.sign_in(request, response, user)
    return response


async def sign_out(request: Request) -> Response:
    """``POST /logout``."""
    try:
        await browser.form_of(request)
    except browser.Foreign:
        return _foreign()
    response = html.page(html.said("Signed out", "You can close this page."))
    await browser.sign_out(request, response)
    return response


async def device(request: Request) -> Response:
    """``GET /device``: whoever is signed in is asked about a code."""
    user_code = user_code_of(request.query_params.get("user_code", ""))
    found = await browser.signed_in(request)
    if found is None:
        return to("/login", user_code)
    return _device_page(request, found[0], user_code)


async def decide(request: Request) -> Response:
    """``POST /device``: approved, or refused."""
    try:
        form = await browser.form_of(request)
    except browser.Foreign:
        return _foreign()
    user_code, now = user_code_of(form.get("user_code", "")), time.time()
    found = await browser.signed_in(request)
    if found is None:
        return to("/login", user_code)
    user, signed_in = found
    relay = relay_of(request)
    if not relay.attempts.user_codes.allow(user.id, now):
        message = "Too many codes. Wait ten minutes."
        return _device_page(request, user, user_code, message, status=429)
    approve = form.get("answer") == "approve"
    if not await relay.store.logins.decide(user_code, signed_in, now, approve=approve):
        message = "No terminal waits with this code. It may have expired: begin again there."
        return _device_page(request, user, user_code, message, status=400)
    if approve:
        return html.page(html.said("Approved", "The terminal is logged in. Close this page."))
    return html.page(html.said("Refused", "The terminal is not logged in. Close this page."))


def user_code_of(text: str) -> str:
    """A code as it is stored, whatever way somebody typed it; empty where it is none."""
    letters = "".join(each for each in text.upper() if each in USER_CODE_LETTERS)
    return letters if len(letters) == _CODE else ""


async def _person(request: Request, username: str, password: str) -> User | None:
    """Whose name and password these are, here or at the site; each name is asked of one alone."""
    relay = relay_of(request)
    pam = relay.others.pam
    name, _, domain = username.rpartition("@")
    if pam is not None and domain.lower() == pam.declared.domain:
        person = await pam.person(name, password)
        return None if person is None else await relay.others.user(person)
    known = await relay.store.logins.password(username) if username.isprintable() else None
    good = await passwords.check(password, known[1] if known else None)
    return known[0] if known and good else None


def _domain(relay: Relay) -> str:
    """Of names that are written without one."""
    pam = relay.others.pam
    return relay.provider.domain if pam is None else pam.declared.domain


def may_sign_in(request: Request) -> bool:
    """Count a try of this address."""
    address = request.client.host if request.client else ""
    return relay_of(request).attempts.sign_ins.allow(origin(address), time.time())


def _may_try(request: Request, username: str) -> bool:
    key = username[:256].lower()
    return may_sign_in(request) and relay_of(request).attempts.passwords.allow(key, time.time())


def sign_in_page(
    request: Request, user_code: str, wrong: str = "", name: str = "", status: int = 200
) -> Response:
    """The form, and every other way to sign in."""
    cookie, guard = browser.guard_of(request)
    relay = relay_of(request)
    others = relay.others
    hint = ""
    if others.pam is not None:
        hint = f"{others.pam.title} by name; users of this relay as NAME@{relay.provider.domain}."
    text = html.sign_in(guard, user_code, wrong, name, accounts=hint, elsewhere=others.elsewhere())
    response = html.page(text, status)
    browser.put(request, response, browser.FORM, cookie)
    return response


def _device_page(
    request: Request, user: User, user_code: str, wrong: str = "", status: int = 200
) -> Response:
    cookie, guard = browser.guard_of(request)
    shown = f"{user_code[:4]}-{user_code[4:]}" if user_code else ""
    response = html.page(html.device(guard, shown, user.username, wrong), status)
    browser.put(request, response, browser.FORM, cookie)
    return response


def to(path: str, user_code: str) -> Response:
    """Elsewhere among the pages, with the code that a terminal waits with."""
    query = f"?{urlencode({'user_code': user_code})}" if user_code else ""
    return RedirectResponse(f"{path}{query}", _OTHER, html.HEADERS)


def _foreign() -> Response:
    text = "This form is old, or did not come from this page. Go back, reload, and try again."
    return html.page(html.said("Not done", text), 403)
