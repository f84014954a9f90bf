"""Large arguments and results, streamed: who may send them, and who may have them."""

import base64
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from mep.wire import codes
from mep.wire.rest import Uploaded
from mep.wire.tasks import Blob
from mep_cloud.auth import bearer, digest, not_valid
from mep_cloud.blobs.keeper import Announced
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, relay_of, user_of

_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_CHUNK: Final = 256 * 1024
"""Bytes of a download that are in memory at once."""


async def upload(request: Request) -> Response:
    """``POST /v3/blobs``: arguments for one task of a later submit, as they are.

    ``Content-Length`` and ``Content-Digest`` (sha-256) are required. The answer comes once all of
    it is on disk; it names what to submit in the arguments' place, and is good for a while
    (``orphan_s`` in ``GET /v3/limits``).
    """
    user = await user_of(request)
    relay = relay_of(request)
    size, sha256 = _announced(request, relay.settings.limits.payload)
    announced = Announced(user.id, "arguments", size, sha256)
    return _uploaded(request, await relay.blobs.receive(announced, request.stream()))


async def arguments(request: Request) -> Response:
    """``GET /v3/tasks/{id}/arguments``: with the token of the user endpoint that has the task."""
    relay = relay_of(request)
    user_endpoint_id = await _user_endpoint(request)
    task_id = checked(request.path_params["id"], "task id")
    blob = await relay.store.blobs.arguments(task_id, user_endpoint_id)
    if blob is None:
        message = f"There is no task {task_id} of this user endpoint with large arguments."
        raise Refusal(404, codes.TASK_NOT_FOUND, message)
    return await _download(relay, blob)


async def upload_result(request: Request) -> Response:
    """``POST /v3/tasks/{id}/result``: with the token of the user endpoint that has the task.

    As ``POST /v3/blobs``; the task ends when its result, which names the answer, comes by the link.
    """
    relay = relay_of(request)
    user_endpoint_id = await _user_endpoint(request)
    task_id = checked(request.path_params["id"], "task id")
    owner = await relay.store.blobs.whose_result(task_id, user_endpoint_id)
    if owner is None:
        message = f"There is no task {task_id} of this user endpoint that has not ended."
        raise Refusal(404, codes.TASK_NOT_FOUND, message)
    size, sha256 = _announced(request, relay.settings.limits.result)
    announced = Announced(owner, "result", size, sha256, task_id)
    return _uploaded(request, await relay.blobs.receive(announced, request.stream()))


async def result(request: Request) -> Response:
    """``GET /v3/tasks/{id}/result``: the large result of a task of one's own, as it is; in parts,
    too (``Range``).
    """
    user = await user_of(request)
    relay = relay_of(request)
    task_id = checked(request.path_params["id"], "task id")
    blob = await relay.store.blobs.result(task_id, user.id)
    if blob is None:
        message = f"There is no task {task_id} of yours with a large result."
        raise Refusal(404, codes.TASK_NOT_FOUND, message)
    return await _download(relay, blob)


class _File(FileResponse):
    chunk_size = _CHUNK


async def _download(relay: Relay, blob: Blob) -> Response:
    path = await relay.blobs.path(blob)
    sha256 = base64.b64encode(bytes.fromhex(blob.sha256)).decode()
    headers = {"Repr-Digest": f"sha-256=:{sha256}:", "Cache-Control": "no-store"}
    return _File(path, headers=headers, media_type="application/octet-stream")


async def _user_endpoint(request: Request) -> str:
    token = digest(bearer(request.headers.get("authorization")))
    user_endpoint_id = await relay_of(request).store.starts.bearer(token)
    if user_endpoint_id is None:
        raise not_valid()
    return user_endpoint_id


def _announced(request: Request, most: int) -> tuple[int, bytes]:
    if not relay_of(request).settings.shares_blobs:
        message = "This relay's processes share no directory of files. Submit the arguments inline."
        raise Refusal(409, codes.INVALID_REQUEST, message)
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and len(length) < 16):
        raise Refusal(411, codes.INVALID_REQUEST, "An upload needs a Content-Length.")
    size = int(length)
    if size > most:
        message = f"{size} bytes are too many: this relay takes {most} for one task each way."
        raise Refusal(413, codes.TASK_PAYLOAD_TOO_LARGE, message)
    found = _DIGEST.fullmatch(request.headers.get("content-digest", "").strip())
    if found is None:
        message = "An upload needs a Content-Digest of the form sha-256=:BASE64: (RFC 9530)."
        raise Refusal(400, codes.INVALID_REQUEST, message)
    return size, base64.b64decode(found[1])


def _uploaded(request: Request, blob: Blob) -> Response:
    return answer(request, Uploaded(blob.id, blob.size, blob.sha256))
