"""``parent.json``: the manager's non-secret settings, for templates and user endpoints.

Generated from ``config.yaml`` by ``mep configure``, ``mep register`` and ``mep start``;
root-owned; handed through the warden as opaque bytes. Templates see it as ``_GC.parent_config``.
"""

from typing import Any

import msgspec


class Parent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user endpoint needs to know of its site."""

    endpoint_id: str
    endpoint_name: str
    relay_url: str
    """``https://host[:port]``, no trailing slash."""
    ca_file: str | None = None
    """Additional CA certificates for the relay's TLS certificate; must be readable by users."""
    display_name: str | None = None
    multi_user: bool = True
    allowed_functions: tuple[str, ...] | None = None
    """UUID or UUID@SHA256, see :mod:`mep.wire.allowed`. None: every function; empty: none."""
    require_json_data: bool = False
    """Of ``policy.toml``: refuse a list of functions where arguments may be pickles."""
    heartbeat_period: float = 30.0
    """Seconds."""
    debug: bool = False
    registered: dict[str, Any] | None = None
    """What the relay was told by ``mep register``, and goes by until the next; None: not known."""
    settings: dict[str, Any] = {}
    """Every other key of ``config.yaml``, as written, for templates."""
