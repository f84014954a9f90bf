"""All tables together, and what they must agree on."""

import re
from typing import Final

import msgspec

from mep_cloud.identity.settings import Globus, Identity, Oidc, Pam
from mep_cloud.settings.blobs import Blobs
from mep_cloud.settings.cluster import Cluster
from mep_cloud.settings.database import Database
from mep_cloud.settings.hooks import Hooks
from mep_cloud.settings.limits import MOST_INLINE, Limits
from mep_cloud.settings.log import Log

GLOBUS: Final = "globus"
"""Name of the way to sign in with Globus Auth, as that of an issuer is NAME of [oidc.NAME]."""
_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    limits: Limits = Limits()
    identity: Identity = Identity()
    oidc: dict[str, Oidc] = {}
    globus: Globus = Globus()
    pam: Pam = Pam()
    blobs: Blobs = Blobs()
    database: Database = Database()
    cluster: Cluster = Cluster()
    log: Log = Log()
    hooks: Hooks = Hooks()

    def __post_init__(self) -> None:
        """No two providers vouch for the same user names, or are the same issuer."""
        named = [domain for each in self.oidc.values() for domain in each.domains]
        if twice := _twice([*named, *([self.pam.domain] if self.pam.service else [])]):
            raise ValueError(f"two identity providers have the domain {twice}")
        if twice := _twice([each.issuer for each in self.oidc.values()]):
            raise ValueError(f"two tables [oidc.NAME] have the issuer {twice}")
        for name, each in self.oidc.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"[oidc.{name}]: a name has lower case letters, digits and -")
            if name == GLOBUS:
                raise ValueError("[oidc.globus] is not a name; Globus Auth has its own table")
            if each.client_id and not self.identity.url:
                raise ValueError(f"[oidc.{name}] has a client_id, so [identity] needs url")
        if self.globus.sign_in and not (self.identity.url and self.globus.client_id):
            raise ValueError("[globus] sign_in needs client_id, and [identity] url")
        if not self.shares_blobs and max(self.limits.payload, self.limits.result) > MOST_INLINE:
            raise ValueError(
                f"[limits] payload or result exceed {MOST_INLINE}, so [blobs] directory must name "
                "the one that all processes of the [cluster] share"
            )

    @property
    def shares_blobs(self) -> bool:
        """Whether each process that serves the database has the files of all."""
        return not self.cluster.enabled or bool(self.blobs.directory)

    @property
    def inline(self) -> int:
        """Bytes of arguments or a result that are no file."""
        return self.blobs.inline if self.shares_blobs else MOST_INLINE


def _twice(texts: list[str]) -> str:
    return next((each for each in texts if texts.count(each) > 1), "")
