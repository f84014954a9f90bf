"""The variables that the site provides: ``_GC`` and, for older templates, its parts by name.

==================================  ===========================================================
``_GC.parent_config``               settings of ``config.yaml``, by attribute
``_GC.user_runtime``                what the SDK says of the user's Python
``_GC.mapped_identity.local``       ``uname uid gid gecos shell dir groups`` of the account
``_GC.mapped_identity.globus.id``   the identity that was mapped
``_GC.env``                         the environment of the user endpoint
==================================  ===========================================================

The runtime comes from the user, gecos and shell can be set by the account's owner: all text in
here is confined like an option.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mep.endpoint.template.sealed import Spelling, Vault
from mep.wire.parent import Parent

_LOCAL = ("uname", "uid", "gid", "gecos", "shell", "dir", "groups")


@dataclass(frozen=True)
class Site:
    """Where and for whom a template is rendered."""

    parent: Parent
    runtime: Mapping[str, Any]
    """``user_runtime`` as the SDK sent it."""
    account: Mapping[str, Any]
    """The mapped account, see :class:`mep.wire.handover.Handover`."""
    identity_id: str
    environment: Mapping[str, str]

    def variables(self, vault: Vault) -> dict[str, Any]:
        """The reserved variables, their text sealed."""
        settings = {**self.parent.settings, **msgspec.structs.asdict(self.parent)}
        del settings["settings"], settings["registered"]
        identity = {
            "local": {name: self.account.get(name) for name in _LOCAL},
            "globus": {"id": self.identity_id},
        }
        parts = {
            "parent_config": vault.seal_all(settings, Spelling.BARE),
            "user_runtime": vault.seal_all(dict(self.runtime), Spelling.WORD),
            "mapped_identity": vault.seal_all(identity, Spelling.BARE),
        }
        environment = vault.seal_all(dict(self.environment), Spelling.SCALAR)
        return {"_GC": {**parts, "env": environment}, **parts}
