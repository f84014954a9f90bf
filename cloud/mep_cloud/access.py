"""Who may do what: every rule in one place, pure, over records.

A *principal* is the id of a user or of a group. Words:

- *sees* an endpoint: finds it in listings, reads its description and status;
- *submits*: sends tasks to it. A multi-user endpoint takes tasks of everybody who is signed in,
  because the site maps each to an account or refuses;
- *manages*: registers it anew, deletes it;
- *calls* a function: names it in a submit, reads its code.

Refusals carry the codes of the Globus Compute web API.
"""

from collections.abc import Iterable, Mapping

import msgspec

from mep.wire import codes
from mep.wire.rest import RegisterEndpoint
from mep_cloud.errors import Refusal
from mep_cloud.store.records import EndpointRecord, FunctionRecord, GroupRecord, Policy, Role, User


def principals(user: User) -> frozenset[str]:
    """Every id under which a list may name `user`: linked identities' and groups' among them."""
    linked = msgspec.json.decode(user.identity_set or "[]", type=list[dict[str, str]])
    return user.groups | {user.id} | {each["id"] for each in linked}


def manages(endpoint: EndpointRecord, user: User) -> bool:
    """The owner, whom the registration names among its admins, the relay's administrators."""
    named = principals(user).intersection(endpoint.registration.admins or ())
    return user.is_admin or endpoint.owner == user.id or bool(named)


def sees(endpoint: EndpointRecord, user: User) -> bool:
    """Whether `user` may know of the endpoint.

    A single-user endpoint is its owner's and its managers'. A multi-user endpoint without a list
    is shown to whoever knows its id; with `visible_to`, to those named; a public one to all.
    """
    if manages(endpoint, user):
        return True
    if not endpoint.registration.multi_user:
        return False
    listed = endpoint.registration.visible_to
    return endpoint.public or listed is None or bool(principals(user).intersection(listed))


def submits(endpoint: EndpointRecord, user: User) -> bool:
    """Whether `user` may send tasks: the owner alone where it is a single-user endpoint."""
    return endpoint.registration.multi_user or endpoint.owner == user.id


def calls(function: FunctionRecord, user: User) -> bool:
    """Whether `user` may call the function: its own, a public one, one of a group of theirs."""
    shared = function.group_id is not None and function.group_id in user.groups
    return function.owner == user.id or function.public or shared


def reads_task(owner: str, user: User) -> bool:
    """Tasks, results and task groups are their submitter's alone."""
    return owner == user.id


def check_sees(endpoint: EndpointRecord, user: User) -> None:
    """Raises:
    Refusal: 403.
    """
    if not sees(endpoint, user):
        message = (
            f"Endpoint {endpoint.id} is not shown to {user.username}. Ask its administrator to "
            "list you or a group of yours under visible_to."
            if endpoint.registration.multi_user
            else f"Endpoint {endpoint.id} is a single-user endpoint of somebody else."
        )
        raise Refusal(403, codes.ENDPOINT_ACCESS_FORBIDDEN, message)


def check_submits(endpoint: EndpointRecord, user: User) -> None:
    """Raises:
    Refusal: 403.
    """
    if not submits(endpoint, user):
        message = f"Endpoint {endpoint.id} is a single-user endpoint of somebody else."
        raise Refusal(403, codes.ENDPOINT_ACCESS_FORBIDDEN, message)


def check_policy(
    policy: Policy | None, user: User, identities: Iterable[Mapping[str, str]], now: float
) -> None:
    """Whether an endpoint's authentication policy lets `user` submit.

    One identity has to meet all of it: a domain of one and a provider of another are nothing.

    Args:
        policy: None where the one that the endpoint names is gone: then nobody may.
        user: with the time at which they signed in.
        identities: their identity set.
        now: epoch seconds.

    Raises:
        Refusal: 403, with what the identity that came furthest lacks.
    """
    if policy is None:
        raise _policy_refuses("it was removed from the relay. Its administrator registers it anew")
    lacks = [_lack(policy, user, each, now) for each in identities]
    if None not in lacks:
        raise _policy_refuses(max((each for each in lacks if each), key=_far)[1])


def _lack(
    policy: Policy, user: User, identity: Mapping[str, str], now: float
) -> tuple[int, str] | None:
    """How far an identity came, and what it lacks; None: nothing."""
    domain = identity.get("username", "").rpartition("@")[2].lower()
    if any(_is_within(domain, each) for each in policy.excluded_domains):
        return 0, f"identities of {domain} are excluded. Use another one"
    allowed = policy.allowed_domains
    if allowed and not any(_is_within(domain, each) for each in allowed):
        return 1, f"identities of {', '.join(allowed)} alone are let in"
    if policy.provider not in (None, identity.get("identity_provider")):
        return 2, "it demands another identity provider"
    # Where nobody tells which identity was proved, it is the one that speaks, and no linked one.
    proofs = {user.id: user.signed_in} if user.proofs is None else user.proofs
    proved = proofs.get(identity["id"])
    late = proved is None or now - proved > (policy.session_s or 0.0)
    if policy.session_s is not None and late:
        return 3, f"you must have signed in within {policy.session_s:.0f} s. Run `mep login` again"
    return None


def _far(lack: tuple[int, str]) -> int:
    return lack[0]


def _is_within(domain: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:])
    return domain == pattern


def _policy_refuses(why: str) -> Refusal:
    message = f"The endpoint's authentication policy refuses: {why}."
    return Refusal(403, codes.AUTHENTICATION_POLICY_NOT_MET, message)


def check_manages(endpoint: EndpointRecord, user: User) -> None:
    """Raises:
    Refusal: 403.
    """
    if not manages(endpoint, user):
        message = f"Only an administrator or the owner can change endpoint {endpoint.id}."
        raise Refusal(403, codes.ADMIN_REQUIRED, message)


def check_registers(*, multi_user: bool, user: User) -> None:
    """Everybody registers single-user endpoints, the relay's administrators multi-user ones.

    Raises:
        Refusal: 403.
    """
    if multi_user and not user.is_admin:
        message = (
            f"{user.username} is no administrator of this relay, so it cannot register a "
            "multi-user endpoint. Ask for `mep-relay user add --admin`, or register a "
            "single-user endpoint."
        )
        raise Refusal(403, codes.ADMIN_REQUIRED, message)


def check_calls(function: FunctionRecord, user: User) -> None:
    """Raises:
    Refusal: 403.
    """
    if not calls(function, user):
        message = (
            f"Function {function.id} is somebody else's, and shared neither with everybody nor "
            "with a group of yours. Ask its owner to share it, or register your own."
        )
        raise Refusal(403, codes.FUNCTION_ACCESS_FORBIDDEN, message)


def check_runs(function: FunctionRecord, endpoint: EndpointRecord) -> None:
    """Whether this function may run at this endpoint, whoever calls it.

    Raises:
        Refusal: 403, `allowed_functions` does not name it, it is bound to another endpoint, or to
            none where only such run.
    """
    allowed = endpoint.registration.allowed_functions
    if allowed is not None and function.id not in allowed:
        message = (
            f"Endpoint {endpoint.id} does not run function {function.id}: its administrator "
            "allows a list of functions only (see its allowed_functions)."
        )
        raise Refusal(403, codes.FUNCTION_NOT_PERMITTED, message)
    if function.ha_endpoint_id not in (None, endpoint.id):
        message = (
            f"Function {function.id} is registered for endpoint {function.ha_endpoint_id} alone "
            "(its ha_endpoint_id). Submit it there, or register it without."
        )
        raise Refusal(403, codes.FUNCTION_NOT_PERMITTED, message)
    if endpoint.registration.high_assurance and function.ha_endpoint_id is None:
        message = (
            f"Endpoint {endpoint.id} is a high-assurance endpoint: it runs functions alone that "
            f"were registered for it. Register {function.id} anew with its id as ha_endpoint_id."
        )
        raise Refusal(403, codes.FUNCTION_NOT_PERMITTED, message)


def check_assurance(registration: RegisterEndpoint, policy: Policy | None) -> None:
    """Whether a high-assurance endpoint says how long ago its users signed in at most.

    Raises:
        Refusal: 422.
    """
    if registration.high_assurance and (policy is None or policy.session_s is None):
        message = (
            "high_assurance needs an authentication_policy with a session age. The relay's "
            "operator makes one with `mep-relay policy add NAME --session-s SECONDS`."
        )
        raise Refusal(422, codes.INVALID_REQUEST, message)


def check_deletes(function: FunctionRecord, user: User) -> None:
    """Raises:
    Refusal: 403.
    """
    if function.owner != user.id:
        message = f"Only its owner can delete function {function.id}."
        raise Refusal(403, codes.FUNCTION_ACCESS_FORBIDDEN, message)


def check_shares(group_id: str, user: User) -> None:
    """A function can be shared with a group that one is in.

    Raises:
        Refusal: 404, one cannot learn whether other groups exist.
    """
    if group_id not in user.groups:
        raise no_group(group_id)


def check_sees_group(group: GroupRecord, role: Role | None, user: User) -> None:
    """Its members, and the relay's administrators.

    Raises:
        Refusal: 404, one cannot learn whether other groups exist.
    """
    if role is None and not user.is_admin:
        raise no_group(group.id)


def check_manages_group(group: GroupRecord, role: Role | None, user: User) -> None:
    """Its managers, and the relay's administrators.

    Raises:
        Refusal: 403, or 404 for whoever may not see it.
    """
    check_sees_group(group, role, user)
    if role != "manager" and not user.is_admin:
        message = f"Only a manager of group {group.name} ({group.id}) can change it."
        raise Refusal(403, codes.GROUP_ACCESS_FORBIDDEN, message)


def no_group(group_id: str) -> Refusal:
    """There is none, as far as whoever asks may know."""
    message = f"There is no group {group_id} of yours. `mep groups list` shows those you are in."
    return Refusal(404, codes.GROUP_NOT_FOUND, message)
