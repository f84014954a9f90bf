"""Manager links: warden up and down, started, refused, exited, time-outs."""

from mep.wire import codes
from mep_cloud.delivery.calls import Out, advance, end_cancelled, fail_all, start_answered
from mep_cloud.delivery.events import (
    EndpointRemoved,
    Exited,
    ManagerClosed,
    ManagerOpened,
    Refused,
    Started,
    StartPostponed,
    StartUnsigned,
    WardenDown,
    WardenUp,
)
from mep_cloud.delivery.instructions import CloseLink
from mep_cloud.delivery.state import (
    MAX_EXITS,
    START_ATTEMPTS,
    START_TIMEOUT_S,
    Site,
    State,
    UserEndpoint,
)

REPLACED = 4409
UNKNOWN_ENDPOINT = 4404
GONE = 1001


def opened(state: State, event: ManagerOpened, out: Out) -> None:
    """A manager is there; whether its warden is, it says next."""
    site = state.site(event.endpoint_id)
    if site.connection is not None:
        state.managers.pop(site.connection, None)
        reason = "A newer connection of this endpoint's manager replaced this one."
        out.append(CloseLink(site.connection, REPLACED, reason))
    site.connection = event.connection
    site.boot_id = None
    state.managers[event.connection] = site


def closed(state: State, event: ManagerClosed) -> None:
    """The manager is gone. What the warden is doing is not known until it is back."""
    site = state.managers.pop(event.connection, None)
    if site is not None:
        site.connection = site.boot_id = None


def warden_up(state: State, event: WardenUp, now: float, out: Out) -> None:
    """The warden tells which processes live; every other start that was under way is void."""
    site = state.managers.get(event.connection)
    if site is None:
        return
    site.boot_id = event.boot_id
    site.running = set(event.running)
    for user_endpoint in list(site.members.values()):
        if user_endpoint.start is not None:
            user_endpoint.unlinked = user_endpoint.id in site.running
            start_answered(state, user_endpoint)
        elif user_endpoint.id not in site.running:
            user_endpoint.unlinked = False
        advance(state, user_endpoint, now, out)


def warden_down(state: State, event: WardenDown) -> None:
    """No start is possible; processes live on."""
    site = state.managers.get(event.connection)
    if site is not None:
        site.boot_id = None


def started(state: State, event: Started) -> None:
    """The warden has a process for this user endpoint, from this grant or an earlier one."""
    site = state.managers.get(event.connection)
    if site is None:
        return
    site.running.add(event.user_endpoint_id)
    user_endpoint = site.members.get(event.user_endpoint_id)
    # The link may have opened before this message came: then no start is under way any more.
    if user_endpoint is not None and user_endpoint.start is not None:
        user_endpoint.unlinked = True
        user_endpoint.attempts = 0
        start_answered(state, user_endpoint)


def refused(state: State, event: Refused | StartUnsigned, now: float, out: Out) -> None:
    """A start was refused: the waiting tasks fail, if it is the start that is under way."""
    user_endpoint = state.starting.get(event.user_endpoint_id)
    if user_endpoint is None or user_endpoint.start is None:
        return
    if isinstance(event, Refused) and user_endpoint.site.connection != event.connection:
        return
    if user_endpoint.start.nonce != event.nonce:
        return
    start_answered(state, user_endpoint)
    user_endpoint.attempts = 0
    fail_all(user_endpoint, event.code, event.message, now, out)


def postponed(state: State, event: StartPostponed, now: float) -> None:
    """The site was not asked yet, so that it has all its time still to answer."""
    user_endpoint = state.starting.get(event.user_endpoint_id)
    start = None if user_endpoint is None else user_endpoint.start
    if start is not None and start.nonce == event.nonce:
        start.deadline = now + START_TIMEOUT_S


def exited(state: State, event: Exited, now: float, out: Out) -> None:
    """A process ended."""
    site = state.managers.get(event.connection)
    if site is None:
        return
    user_endpoint = site.members.get(event.user_endpoint_id)
    if user_endpoint is None:
        site.running.discard(event.user_endpoint_id)
        return
    if _is_of_another_process(user_endpoint, event.nonce):
        return
    came_up = not (user_endpoint.start is not None or user_endpoint.unlinked or event.code)
    _forget_process(state, site, user_endpoint, out)
    if came_up:
        _ended_after_link(user_endpoint, event, now, out)
    else:
        code = event.code or codes.START_FAILED
        fail_all(user_endpoint, code, event.message or _why(event), now, out)
    advance(state, user_endpoint, now, out)
    state.forget_idle(user_endpoint)


def _is_of_another_process(user_endpoint: UserEndpoint, nonce: str) -> bool:
    """Whether an exit with this nonce is old news.

    A link is proof of life of the process that opened it. A start that the warden has not
    answered yet can only have been asked for after the older process was known to be gone. Once the
    warden has answered, any exit that it tells later is the present process's.
    """
    if user_endpoint.link is not None:
        return nonce not in ("", user_endpoint.link.nonce)
    if user_endpoint.start is not None:
        return nonce != user_endpoint.start.nonce
    return False


def _forget_process(state: State, site: Site, user_endpoint: UserEndpoint, out: Out) -> None:
    site.running.discard(user_endpoint.id)
    start_answered(state, user_endpoint)
    user_endpoint.unlinked = False
    link = user_endpoint.link
    if link is not None:
        user_endpoint.left = link.leaving
        user_endpoint.link = None
        state.links.pop(link.connection, None)
        out.append(CloseLink(link.connection, GONE, "The process of this link has ended."))


def _ended_after_link(user_endpoint: UserEndpoint, event: Exited, now: float, out: Out) -> None:
    unwanted = [call for call in user_endpoint.sent.values() if call.cancel_wanted]
    end_cancelled(user_endpoint, unwanted, now, out)
    if user_endpoint.left:
        user_endpoint.left = False
        return
    if not user_endpoint.has_work:
        return
    user_endpoint.exits += 1
    if user_endpoint.exits >= MAX_EXITS:
        user_endpoint.exits = 0
        message = (
            f"The user endpoint ended {MAX_EXITS} times in a row before it finished a task, the "
            f"last time with {event.how}. Its log is ~/.mep/{user_endpoint.id}/stderr.log at the "
            "site; show it to the endpoint's administrator."
        )
        fail_all(user_endpoint, codes.ENDPOINT_LOST, message, now, out)


def _why(event: Exited) -> str:
    return (
        f"The user endpoint ended before it could take tasks, with {event.how}. Its log is "
        f"~/.mep/{event.user_endpoint_id}/stderr.log at the site; show it to the endpoint's "
        "administrator."
    )


def time_passed(state: State, now: float, out: Out) -> None:
    """Ask again for starts that nobody answered, a bounded number of times."""
    for user_endpoint in list(state.starting.values()):
        start = user_endpoint.start
        if start is None or start.deadline > now:
            continue
        start_answered(state, user_endpoint)
        if user_endpoint.site.boot_id is None:
            continue  # the warden's next word decides
        user_endpoint.attempts += 1
        if user_endpoint.attempts >= START_ATTEMPTS:
            user_endpoint.attempts = 0
            message = (
                f"The site did not answer {START_ATTEMPTS} requests to start a user endpoint. "
                "Ask the endpoint's administrator to look at the manager's and the warden's logs."
            )
            fail_all(user_endpoint, codes.START_FAILED, message, now, out)
        advance(state, user_endpoint, now, out)


def removed(state: State, event: EndpointRemoved, now: float, out: Out) -> None:
    """The endpoint was deleted: its links close and what waits for it fails."""
    site = state.sites.get(event.endpoint_id)
    if site is None:
        return
    reason = "This endpoint was deleted."
    if site.connection is not None:
        state.managers.pop(site.connection, None)
        out.append(CloseLink(site.connection, UNKNOWN_ENDPOINT, reason))
        site.connection = site.boot_id = None
    for user_endpoint in list(site.members.values()):
        start_answered(state, user_endpoint)
        user_endpoint.unlinked = False
        if user_endpoint.link is not None:
            state.links.pop(user_endpoint.link.connection, None)
            out.append(CloseLink(user_endpoint.link.connection, UNKNOWN_ENDPOINT, reason))
            user_endpoint.link = None
        message = "The endpoint was deleted before the task had ended."
        fail_all(user_endpoint, codes.ENDPOINT_NOT_FOUND, message, now, out)
        state.forget_idle(user_endpoint)
