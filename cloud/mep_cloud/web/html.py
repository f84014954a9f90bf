"""Pages as text. What came from outside passes through :func:`html.escape`; nothing else may."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:10vh auto;padding:0 1rem;color:#222}
input{font:inherit;width:100%;padding:.5rem;margin:.25rem 0 1rem;box-sizing:border-box}
button{font:inherit;padding:.5rem 1.25rem;margin-right:.5rem}
.code{font-family:monospace;letter-spacing:.15em;text-transform:uppercase}
.elsewhere{display:inline-block;padding:.5rem 1.25rem;border:1px solid;border-radius:4px}
.wrong{border-left:4px solid #b00;padding-left:.75rem}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, a browser sends `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def sign_in(
    guard: str,
    user_code: str,
    wrong: str = "",
    username: str = "",
    *,
    accounts: str = "",
    elsewhere: Iterable[tuple[str, str]] = (),
) -> str:
    """The form for name and password, and the ways to sign in elsewhere.

    `accounts` says whose names may be written without a domain; `elsewhere` are names and titles.
    """
    buttons = "".join(_elsewhere(name, title, user_code) for name, title in elsewhere)
    hint = f"<p>{escape(accounts)}</p>" if accounts else ""
    return (
        f"<h1>Sign in</h1>{_wrong(wrong)}{buttons}{hint}"
        f'<form method="post" action="/login">{_hidden(guard, user_code)}'
        '<label>User name<input name="username" autocomplete="username" required autofocus '
        f'value="{escape(username)}"></label>'
        '<label>Password<input name="password" type="password" autocomplete="current-password" '
        "required></label><button>Sign in</button></form>"
    )


def device(guard: str, user_code: str, username: str, wrong: str = "") -> str:
    """The form that approves or refuses a terminal's login."""
    return (
        f"<h1>Log in a terminal</h1>{_wrong(wrong)}"
        f"<p>You are <b>{escape(username)}</b>. The terminal that shows this code will act as you. "
        "Approve it only if you started it yourself, just now.</p>"
        f'<form method="post" action="/device">{_hidden(guard)}'
        '<label>Code<input class="code" name="user_code" autocomplete="off" required '
        f'value="{escape(user_code)}"></label>'
        '<button name="answer" value="approve">Approve</button>'
        '<button name="answer" value="refuse">Refuse</button></form>'
        f'<form method="post" action="/logout">{_hidden(guard)}<p><button>Sign out</button></p>'
        "</form>"
    )


def said(title: str, text: str) -> str:
    """A page that only says something."""
    return f"<h1>{escape(title)}</h1><p>{escape(text)}</p>"


def page(body: str, status: int = 200) -> HTMLResponse:
    """A whole page, with every header that keeps it to itself."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Relay</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    return HTMLResponse(text, status, HEADERS)


def _elsewhere(name: str, title: str, user_code: str) -> str:
    query = f"?{urlencode({'user_code': user_code})}" if user_code else ""
    return (
        f'<p><a class="elsewhere" href="/login/{escape(name)}{escape(query)}">'
        f"Sign in with {escape(title)}</a></p>"
    )


def _hidden(guard: str, user_code: str = "") -> str:
    code = f'<input type="hidden" name="user_code" value="{escape(user_code)}">'
    return f'<input type="hidden" name="guard" value="{escape(guard)}">{code if user_code else ""}'


def _wrong(text: str) -> str:
    return f'<p class="wrong" role="alert">{escape(text)}</p>' if text else ""
