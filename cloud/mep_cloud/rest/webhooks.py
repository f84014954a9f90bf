"""Webhooks: register, list, delete."""

import time

from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import RegisterWebhook
from mep_cloud.errors import Refusal
from mep_cloud.hooks.addresses import AddressRefused, Networks, target
from mep_cloud.hooks.signature import key_of, secret_of
from mep_cloud.ids import checked, new_id
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.records import Webhook


async def register(request: Request) -> Response:
    """``POST /v3/webhooks``: the answer holds the secret, which is not shown again."""
    user = await user_of(request)
    relay = relay_of(request)
    wanted = await decoded(request, RegisterWebhook)
    _check_url(relay, wanted.url)
    group_id = wanted.task_group_id
    if group_id is not None:
        group_id = checked(group_id, "task group id")
        if await relay.group_owners.get(group_id) not in (None, user.id):
            message = f"There is no task group {group_id} of yours."
            raise Refusal(404, codes.TASK_GROUP_NOT_FOUND, message)
    webhook = Webhook(new_id(), user.id, wanted.url, group_id, time.time())
    most = relay.settings.hooks.per_user
    if not await relay.store.webhooks.add(webhook, most):
        message = f"You have {most} webhooks, as many as this relay lets a user have. Delete one."
        raise Refusal(409, codes.INVALID_REQUEST, message)
    relay.sender.added(webhook)
    secret = secret_of(key_of(relay.master, webhook.id))
    response = answer(request, {"webhook_id": webhook.id, "secret": secret})
    response.headers["Cache-Control"] = "no-store"
    return response


async def listing(request: Request) -> Response:
    """``GET /v3/webhooks``: one's own, and how they do."""
    user = await user_of(request)
    webhooks = await relay_of(request).store.webhooks.of(user.id)
    return answer(request, {"webhooks": [_shown(each) for each in webhooks]})


async def delete(request: Request) -> Response:
    """``DELETE /v3/webhooks/{id}``: nothing more is sent."""
    user = await user_of(request)
    relay = relay_of(request)
    webhook_id = checked(request.path_params["id"], "webhook id")
    if not await relay.store.webhooks.remove(webhook_id, user.id):
        message = f"There is no webhook {webhook_id} of yours."
        raise Refusal(404, codes.NOT_FOUND, message)
    relay.sender.removed(webhook_id, user.id)
    return answer(request, {"result": 302})


def _check_url(relay: Relay, url: str) -> None:
    settings = relay.settings.hooks
    networks = Networks(settings.allowed_networks, loopback=settings.http_to_loopback)
    try:
        host = target(url, http_to_loopback=settings.http_to_loopback).host
        try:
            networks.check([host])
        except ValueError:
            return  # a name: its addresses are looked at whenever something is sent
    except AddressRefused as error:
        raise Refusal(422, codes.INVALID_REQUEST, str(error)) from error


def _shown(webhook: Webhook) -> dict[str, object]:
    return {
        "webhook_id": webhook.id,
        "url": webhook.url,
        "task_group_id": webhook.task_group_id,
        "created": webhook.created,
        "failures_in_a_row": webhook.attempts,
        "next_attempt": webhook.next_at or None,
        "last_outcome": webhook.last_outcome or None,
        "delivered": webhook.delivered,
        "dropped": webhook.dropped,
    }
