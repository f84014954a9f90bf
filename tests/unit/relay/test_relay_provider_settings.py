"""Tables of other identity providers in ``relay.toml``: what refuses to start, and why."""

import json
from pathlib import Path
from typing import Any

import pytest
from mep_cloud.auth import Provider
from mep_cloud.errors import HomeError
from mep_cloud.home import Home
from mep_cloud.identity.providers import Providers
from mep_cloud.settings import load
from mep_cloud.store import Store


def started(tmp_path: Path, tables: dict[str, dict[str, Any]]) -> Providers:
    """What a relay with these tables has."""
    home = Home(tmp_path)
    lines = [
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(each)}" for key, each in table.items()))
    ]
    home.settings.write_text("\n".join(lines))
    own = Provider("00000000-0000-4000-8000-000000000000", "relay.local")
    return Providers(own, load(home.settings), home, Store(home.database))


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"oidc.a": {"domains": ["a.example"], "audience": "x"}}, "issuer must be an https"),
        ({"oidc.a": {"issuer": "http://sso.example", "audience": "x"}}, "issuer must be an https"),
        ({"oidc.a": {"issuer": "https://sso.example", "audience": "x"}}, "domains"),
        (
            {"oidc.a": {"issuer": "https://a.example", "domains": ["A.example"], "audience": "x"}},
            "no domain in lower case",
        ),
        ({"oidc.a": {"issuer": "https://a.example", "domains": ["a.example"]}}, "audience or"),
        (
            {
                "oidc.a": {
                    "issuer": "https://a.example",
                    "domains": ["a.example"],
                    "audience": "x",
                    "client_id": "x",
                }
            },
            "ID tokens would be taken",
        ),
        (
            {"oidc.a": {"issuer": "https://a.example", "domains": ["b.example"], "audiences": 1}},
            "did you mean 'audience'",
        ),
        (
            {
                "oidc.a": {
                    "issuer": "https://a.example",
                    "domains": ["a.example"],
                    "audience": "x",
                    "algorithms": ["HS256"],
                }
            },
            "HS256",
        ),
        (
            {
                "oidc.a": {
                    "issuer": "https://a.example",
                    "domains": ["x.example"],
                    "audience": "x",
                },
                "oidc.b": {
                    "issuer": "https://b.example",
                    "domains": ["x.example"],
                    "audience": "x",
                },
            },
            "two identity providers have the domain x.example",
        ),
        (
            {
                "oidc.a": {
                    "issuer": "https://a.example",
                    "domains": ["relay.local"],
                    "audience": "x",
                }
            },
            "relay.local is the domain of this relay's own users",
        ),
        (
            {
                "oidc.a": {
                    "issuer": "https://a.example",
                    "domains": ["a.example"],
                    "client_id": "x",
                }
            },
            "needs url",
        ),
        ({"globus": {"client_id": "x"}}, "globus.secret"),
        ({"identity": {"ca_file": "/nowhere.pem"}}, "ca_file"),
        ({"identity": {"proxies": ["proxy.example.org"]}}, "IPv4 or IPv6 network"),
        ({"pam": {"service": "mep-none", "domain": "site.example"}}, "fall back to its service"),
        ({"pam": {"service": "../login", "domain": "site.example"}}, "name of a file"),
        ({"pam": {"service": "login"}}, "no domain"),
    ],
)
def test_what_does_not_fit_refuses_to_start(
    tmp_path: Path, tables: dict[str, dict[str, Any]], why: str
) -> None:
    with pytest.raises(HomeError) as refused:
        started(tmp_path, tables)
    assert why in str(refused.value)


def test_a_secret_is_used_that_nobody_else_can_read(tmp_path: Path) -> None:
    tables = {"globus": {"client_id": "x"}}
    secret = tmp_path / "globus.secret"
    secret.write_text("s\n")
    secret.chmod(0o644)
    with pytest.raises(HomeError, match="open to other accounts"):
        started(tmp_path, tables)
    secret.chmod(0o600)
    assert started(tmp_path, tables).globus is not None


def test_providers_have_ids_of_their_own(tmp_path: Path) -> None:
    def oidc(name: str, **fields: Any) -> dict[str, Any]:
        own = {"issuer": f"https://{name}.example", "domains": [f"{name}.example"]}
        return {**own, "audience": "x", **fields}

    made = started(tmp_path, {"oidc.a": oidc("a"), "oidc.b": oidc("b"), "oidc.c": oidc("c")})
    assert len(made.sessions) == 3
    assert made.elsewhere() == []
    pinned = "6f1c5a52-8a3c-4f0e-9c56-0b4f5d7d2e11"
    made = started(tmp_path, {"oidc.a": oidc("a", id=pinned)})
    assert list(made.sessions) == [pinned]
    twice = {"oidc.a": oidc("a", id=pinned), "oidc.b": oidc("b", id=pinned)}
    with pytest.raises(HomeError, match="the same id"):
        started(tmp_path, twice)
