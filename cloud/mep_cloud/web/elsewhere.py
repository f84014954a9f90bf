"""Signing in with an OIDC issuer or Globus Auth: there, and back with a code."""

import time

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mep_cloud.errors import IdentityTaken, NoAnswer, NotAccepted
from mep_cloud.identity.globus import GlobusAuth
from mep_cloud.identity.oidc import Issuer
from mep_cloud.rest.bodies import relay_of
from mep_cloud.web import browser, html, journey
from mep_cloud.web.pages import may_sign_in, sign_in_page, to, user_code_of


async def leave(request: Request) -> Response:
    """``GET /login/{provider}``: to the page of an identity provider."""
    user_code = user_code_of(request.query_params.get("user_code", ""))
    provider = _provider(request)
    if provider is None:
        return _unknown()
    if not may_sign_in(request):
        return sign_in_page(request, user_code, "Too many tries. Wait five minutes.", status=429)
    relay, (cookie, _) = relay_of(request), browser.guard_of(request)
    name = request.path_params["provider"]
    way = journey.begin(relay.master, cookie, name, user_code, time.time())
    try:
        where = await provider.address(_redirect(request), way.state, way.nonce, way.verifier)
    except NoAnswer as error:
        return sign_in_page(request, user_code, str(error), status=503)
    response = RedirectResponse(where, 303, html.HEADERS)
    browser.put(request, response, browser.FORM, cookie)
    return response


async def come_back(request: Request) -> Response:
    """``GET /login/{provider}/callback``: from there, with the code that says who it is."""
    provider = _provider(request)
    if provider is None:
        return _unknown()
    relay, query = relay_of(request), request.query_params
    cookie, name = request.cookies.get(browser.FORM, ""), request.path_params["provider"]
    way = journey.back(relay.master, cookie, name, query.get("state", ""), time.time())
    # An answer that names its issuer names this one (RFC 9207).
    if len(cookie) < browser.COOKIE or way is None or query.get("iss") not in (None, provider.url):
        message = "This answer is old, or to a sign-in of another browser. Sign in again."
        return sign_in_page(request, "", message, status=403)
    if not may_sign_in(request):
        message = "Too many tries. Wait five minutes."
        return sign_in_page(request, way.user_code, message, status=429)
    try:
        code, redirect = query.get("code", ""), _redirect(request)
        person = await provider.signed_in(code, redirect, way.nonce, way.verifier)
        person.check_age(provider.session_s, time.time())
        user = await relay.others.user(person)
    except (NotAccepted, IdentityTaken) as error:
        return sign_in_page(request, way.user_code, str(error), status=401)
    except NoAnswer as error:
        return sign_in_page(request, way.user_code, str(error), status=503)
    response = to("/device", way.user_code)
    await browser.sign_in(request, response, user)
    return response


def _provider(request: Request) -> Issuer | GlobusAuth | None:
    return relay_of(request).others.page(request.path_params["provider"])


def _redirect(request: Request) -> str:
    """Where the issuer sends people back to: as the operator registered it, whatever Host says."""
    return f"{relay_of(request).others.url}/login/{request.path_params['provider']}/callback"


def _unknown() -> Response:
    text = "This relay knows no such way to sign in."
    return html.page(html.said("Not found", text), 404)
