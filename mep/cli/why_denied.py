"""``mep why-denied``: what the audit log says of somebody, or of a task, that was refused."""

import json
import time
from typing import Any, Final

import click

from mep.cli.audit import line, plain
from mep.cli.audit_filter import REFUSALS, identities
from mep.cli.audit_log import Joined, Record, records
from mep.cli.errors import DONE, FAILED
from mep.cli.site import configured_site

SHOWN: Final = 5
_FAILED_STARTS: Final = frozenset({"exited"})

REMEDIES: Final = {
    "GRANT_REFUSED": "Clocks of relay and site must agree; `mep register` renews the key.",
    "IDENTITY_NOT_MAPPED": "See every rule: mep map {name} --identity FILE; then edit "
    "identity_mapping.json.",
    "ACCOUNT_UNKNOWN": "Make the account, or change the rule: mep map {name} --identity FILE.",
    "ACCOUNT_REFUSED": "`why` names the rule: of policy.toml, of PAM's service in /etc/pam.d, or "
    "`mep deny`, which `mep allow` undoes. Root, a service's own and low uids are never served.",
    "ACCOUNT_SHARED": "Another person is on that account; shared_accounts in policy.toml names "
    "accounts that people share.",
    "START_LIMIT": "Limits are in policy.toml: max_endpoints, max_endpoints_per_user, "
    "starts_per_minute, max_starting.",
    "START_FAILED": "`why` says what failed: mapping, PAM, home directory or exec; see: mep check "
    "{name}.",
    "FUNCTION_NOT_PERMITTED": "allowed_functions in config.yaml or the template does not name it.",
    "OPTIONS_REFUSED": "See user_config_schema.json: mep render {name} --user-options FILE.",
    "TEMPLATE_FAILED": "Try the template: mep render {name}.",
    "CONFIG_REFUSED": "Try the template: mep render {name}.",
}
"""By code: what an administrator looks at."""


@click.command
@click.argument("name")
@click.argument("what", metavar="TASK|IDENTITY")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, what: str, as_json: bool) -> int:
    """Show why NAME refused a task or a person: by which rule, and what to look at.

    TASK is a task's id. IDENTITY is the id or user name of an identity, an account, the id of a
    user endpoint, or the reference that stands in the message that the person got. A task that
    waited for a start that was refused is known if it was among the first that did.

    The exit status is 1 where nothing was refused.

    \b
    Examples:
      mep why-denied cluster alice@example.edu
      mep why-denied cluster 5f2b11aa
    """
    place = configured_site(name)
    denials = [explained(name, one) for one in denied(Joined().all(records(place)), what)]
    if as_json:
        print(json.dumps({"what": what, "denials": denials}, indent=2))
    elif not denials:
        print(f"the audit log of {name} has no refusal of {what!r}; see: mep audit {name}")
    for denial in [] if as_json else denials[-SHOWN:]:
        _show(denial)
    return DONE if denials else FAILED


def denied(found: Any, what: str) -> list[Record]:
    """Refusals of whom or what `what` names, oldest first."""
    wanted = what.casefold()
    return [one for one in found if _is_denial(one) and wanted in _names(one)]


def _is_denial(record: Record) -> bool:
    """A refusal, or a user endpoint that ended because it refused its configuration."""
    return record["event"] in REFUSALS or (record["event"] in _FAILED_STARTS and "code" in record)


def _names(record: Record) -> set[str]:
    keys = ("task_id", "user_endpoint_id", "reference", "account", "function_id")
    tasks = record.get("tasks") if isinstance(record.get("tasks"), list) else []
    words = (*(record.get(key) for key in keys), *identities(record), *(tasks or []))
    return {str(one).casefold() for one in words}


def explained(name: str, record: Record) -> dict[str, Any]:
    """A refusal with what its code means, and what the administrator of `name` looks at."""
    code = str(record.get("code") or str(record.get("text", "")).rpartition(" ")[2])
    return {
        "code": code,
        "why": record.get("why") or record.get("said") or record.get("text", ""),
        "message": _sentence(code),
        "remedy": REMEDIES.get(code, "").format(name=name),
        "record": record,
    }


def _sentence(code: str) -> str:
    from mep.manager.sentences import SENTENCES

    return SENTENCES.get(code, "")


def _show(denial: dict[str, Any]) -> None:
    record = denial["record"]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["at"]))
    people = record.get("identities") or []
    who = ", ".join(str(one.get("username") or one.get("id")) for one in people)
    print(f"{when} {plain(denial['code'])}{f': {plain(who)}' if who else ''}")
    if denial["message"]:
        print(f"  told to the user: {denial['message']}")
    print(f"  why: {plain(denial['why'])}")
    if denial["remedy"]:
        print(f"  look at: {denial['remedy']}")
    print(f"  record: {line(record)}")
