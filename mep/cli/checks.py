"""What can be said of an endpoint's files without a person: one function a subject.

Everything that judges is asked: the code that the warden, the look-ups and user endpoints run.
"""

import grp
import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from mep.cli.accounts import missing
from mep.cli.errors import CliError
from mep.cli.site import Site
from mep.cli.verdict import ask, mapping_text, read_policy
from mep.wire.settings import SettingsError

if TYPE_CHECKING:
    from mep.root.policy import Policy

RENDER_S: Final = 60.0
NOBODY: Final = {
    "id": "00000000-0000-4000-8000-00000000c4ec",
    "status": "used",
    **dict.fromkeys(("username", "email", "sub", "name"), "mep-check@nobody.invalid"),
}
"""An identity that nobody has."""


class Said(NamedTuple):
    """One thing that was found."""

    level: Literal["ok", "warning", "error"]
    subject: str
    words: str


Check = Callable[[Site], Iterator[Said]]


def all_checks(place: Site) -> Iterator[Said]:
    """Everything, in the order in which one would repair it."""
    told = ""
    for check in (settings, accounts, names, files, mapping, template, logs):
        try:
            yield from check(place)
        except (CliError, SettingsError, OSError) as error:
            if str(error) != told:  # a file that several of them read
                yield Said("error", check.__name__, str(error))
            told = str(error)


def settings(place: Site) -> Iterator[Said]:
    """``config.yaml``, and its agreement with ``policy.toml``."""
    from mep.cli.preparation import checked_config, registered, untold

    config, warnings = checked_config(place)
    for warning in warnings:
        yield Said("warning", "config.yaml", warning)
    if config.high_assurance and config.authentication_policy is None:
        words = "high_assurance needs authentication_policy: the relay refuses the registration"
        yield Said("error", "config.yaml", words)
    yield Said("ok", "config.yaml", f"relay {config.relay_url}")
    if registered(place) and (words := untold(place)):
        yield Said("warning", "config.yaml", words)


def accounts(place: Site) -> Iterator[Said]:
    """``policy.toml``, and the service's own accounts."""
    policy = read_policy(place)
    if not place.privileged:
        yield Said("ok", "policy.toml", f"serves {len(policy.owner)} identities of its owner")
        return
    names = (policy.manager_user, policy.callout_user)
    if absent := missing(*names):
        yield Said("error", "accounts", absent)
    elif len({pwd.getpwnam(name).pw_uid for name in names} | {0}) < len(names) + 1:
        yield Said("error", "accounts", f"{' and '.join(names)} must be two accounts, neither root")
    else:
        yield Said("ok", "accounts", ", ".join(names))
    yield Said("ok", "policy.toml", f"minimum uid {policy.minimum_uid}")


def names(place: Site) -> Iterator[Said]:
    """Whether what ``policy.toml`` names is there: accounts, groups, the PAM service."""
    from mep.cli.pam import check_service

    policy = read_policy(place)
    if not place.privileged:
        return
    for key in ("allow_users", "deny_users", "shared_accounts"):
        for name in _absent(getattr(policy, key), pwd.getpwnam):
            yield Said("warning", "policy.toml", f"{key} names {name!r}, which is no account here")
    for key in ("allow_groups", "deny_groups"):
        for name in _absent(getattr(policy, key), grp.getgrnam):
            words = f"{key} names {name!r}, which is no group here: every start is refused"
            yield Said("error", "policy.toml", words)
    if policy.pam_enable:
        check_service(policy.pam_service_name)
        yield Said("ok", "pam", f"/etc/pam.d/{policy.pam_service_name}")


def _absent(wanted: list[str], look_up: Callable[[str], object]) -> Iterator[str]:
    for name in [] if wanted == ["*"] else wanted:
        try:
            look_up(name)
        except (KeyError, ValueError):
            yield name


def files(place: Site) -> Iterator[Said]:
    """Whether the warden would start: owners and modes of files, keys, the mapping."""
    from mep.cli.preparation import registered
    from mep.root import policy
    from mep.root.refusal import ConfigError

    if not registered(place):
        yield Said("warning", "warden", f"not registered yet: mep register {place.name}")
        return
    try:
        policy.load(str(place.etc), str(place.warden_state), str(place.events_socket))
    except ConfigError as error:
        yield Said("error", "warden", str(error))
    else:
        yield Said("ok", "warden", "its files are root's alone to change, and complete")


def mapping(place: Site) -> Iterator[Said]:
    """The mapping file, what its author hardly meant, and whoever it asks."""
    if not place.privileged:
        return
    policy = read_policy(place)
    text = mapping_text(place, policy)
    answer = ask(place, policy, text, [])
    if answer["remarks"] is None:
        yield Said("error", policy.mapping, answer["error"])
        return
    for remark in answer["remarks"]:
        yield Said("warning", policy.mapping, remark)
    raw = json.loads(text)
    if not raw:
        yield Said("warning", policy.mapping, "it has no document, so it maps nobody")
    else:
        yield Said("ok", policy.mapping, "it can be read")
    for number, document in enumerate(raw if isinstance(raw, list) else [raw]):
        if document["DATA_TYPE"].startswith(("external_", "ldap_")):
            yield from _asked(place, policy, f"{policy.mapping} $[{number}]", document)


def _asked(place: Site, policy: "Policy", subject: str, document: dict[str, Any]) -> Iterator[Said]:
    """A program or directory, asked for somebody who does not exist, as in a start."""
    fresh, somebody = document, {**NOBODY, "identity_provider": NOBODY["id"]}
    if document["DATA_TYPE"].startswith("ldap_"):
        fresh = {**document, "cache_s": 0, "negative_cache_s": 0}
        fields = re.findall(r"\{(\w+)\}", str(document.get("filter")))
        pinned = document.get("identity_providers") or [NOBODY["id"]]
        somebody = {**dict.fromkeys(fields, NOBODY["username"]), **somebody}
        somebody["identity_provider"] = str(pinned[0])
    answer = ask(place, policy, json.dumps([fresh]), [somebody])
    if "error" in answer:
        yield Said("error", subject, f"as {policy.callout_user}: {answer['error']}")
    elif answer["output"]:
        words = f"it maps {NOBODY['username']}, whom nobody is, to {answer['output']}"
        yield Said("error", subject, words)
    else:
        yield Said("ok", subject, f"it answers {policy.callout_user}, and maps not just anybody")
    if document["DATA_TYPE"].startswith("ldap_"):
        yield from _cache(policy, subject, document)


def _cache(policy: "Policy", subject: str, document: dict[str, Any]) -> Iterator[Said]:
    from mep.callout.directory.document import CACHE_DIR

    path, user = Path(document.get("cache_dir", CACHE_DIR)), policy.callout_user
    if document.get("cache_s", 1) or document.get("negative_cache_s", 1):
        there = path.is_dir() and not path.is_symlink()
        mine = there and path.stat().st_uid == pwd.getpwnam(user).pw_uid
        if not mine or path.stat().st_mode & 0o022:
            remedy = f"install -d -m 0700 -o {user} {path}"
            yield Said("warning", subject, f"answers are not remembered; for that:  {remedy}")


def template(place: Site) -> Iterator[Said]:
    """The template without any options, and whether allowed_functions means anything."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "mep.cli", "render", place.name, "--json"],
        capture_output=True,
        env=dict(os.environ),
        timeout=RENDER_S,
        check=False,
    )
    if not done.stdout:
        raise CliError(done.stderr.decode("utf-8", "replace").strip().removeprefix("mep: "))
    answer = json.loads(done.stdout)
    if "error" in answer:
        code, words = answer["error"]["code"], answer["error"]["message"]
        level: Literal["warning", "error"] = "warning" if code == "OPTIONS_REFUSED" else "error"
        hint = f"; with options: mep render {place.name} --user-options FILE"
        yield Said(level, "template", f"{code}: {words}{hint if level == 'warning' else ''}")
        return
    for warning in answer["warnings"]:
        yield Said("warning", "template", warning)
    yield Said("ok", "template", "it renders without options")


def warn_of_template(place: Site) -> None:
    """For a start: on standard error, what the template does not mean as it seems to."""
    for said in template(place):
        if said.level != "ok":
            print(f"{said.level}: {said.words}", file=sys.stderr, flush=True)


def logs(place: Site) -> Iterator[Said]:
    """Whether the audit logs can be written; they are made at the first start."""
    for path in (place.warden_log, place.log):
        if path.is_dir():
            free = os.statvfs(path)
            if not free.f_bavail or (free.f_files and not free.f_favail):
                yield Said("error", "audit", f"the file system of {path} is full")
            else:
                room = free.f_bavail * free.f_frsize // 2**20
                yield Said("ok", "audit", f"{path}: {room} MB free")
