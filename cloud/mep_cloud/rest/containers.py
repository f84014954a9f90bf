"""Containers: an image gets an id, and is found by it."""

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import Container, RegisterContainer
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked, new_id
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of

MAX_TEXT: Final = 4096


async def register(request: Request) -> Response:
    """``POST /v3/containers``: give an image an id."""
    user = await user_of(request)
    wanted = await decoded(request, RegisterContainer)
    texts = (wanted.container_type, wanted.location, wanted.name, wanted.description)
    if not (wanted.container_type and wanted.location):
        message = "A container has a type and a location: the image, as its runtime takes it."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    if any(len(text) > MAX_TEXT or not text.isprintable() for text in texts):
        message = f"What is said of a container is one line of at most {MAX_TEXT} characters each."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    container = Container(new_id(), *texts, time.time())
    await relay_of(request).store.containers.add(container, user.id)
    return answer(request, container)


async def describe(request: Request) -> Response:
    """``GET /v3/containers/{id}``: for whoever knows the id."""
    await user_of(request)
    container_id = checked(request.path_params["id"], "container id")
    container = await relay_of(request).store.containers.get(container_id)
    if container is None:
        message = f"There is no container {container_id} at this relay. Check the id."
        raise Refusal(404, codes.NOT_FOUND, message)
    return answer(request, container)
