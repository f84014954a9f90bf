"""The OpenAPI document of the HTTP routes, generated from the route table and the wire's Structs.

A handler's docstring is its description. What it takes and gives is named in :data:`TAKES` and
:data:`GIVES`; for a handler that is not there, its description has to do.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.routing import Route

import mep
from mep.wire import answers, rest
from mep.wire.answers import OAuthRefusal
from mep_cloud.rest import (
    about,
    actions,
    blobs,
    containers,
    endpoints,
    functions,
    groups,
    identities,
    keys,
    oauth,
    submit,
    tasks,
    webhooks,
)
from mep_cloud.web import elsewhere, pages

Handler = Callable[..., Any]

TAKES: Final[dict[Handler, Any]] = {
    submit.submit: rest.Submit[str],
    tasks.batch_status: rest.TaskIds,
    tasks.cancel: rest.TaskIds,
    functions.register: rest.RegisterFunction,
    containers.register: rest.RegisterContainer,
    endpoints.register: rest.RegisterEndpoint,
    endpoints.update: rest.RegisterEndpoint,
    keys.activate: rest.KeyVersion,
    groups.create: rest.NewGroup,
    groups.add: rest.NewMember,
    webhooks.register: rest.RegisterWebhook,
    actions.run: actions.ActionRequest,
}
GIVES: Final[dict[Handler, Any]] = {
    submit.submit: rest.Submitted,
    tasks.status: rest.TaskStatus[str],
    tasks.record: rest.TaskRecord,
    tasks.batch_status: rest.BatchStatus[str],
    tasks.listing: rest.ListedTasks,
    containers.register: rest.Container,
    containers.describe: rest.Container,
    tasks.group: answers.TaskGroup,
    tasks.cancel: answers.Cancelled,
    functions.register: answers.RegisteredFunction,
    functions.search: rest.FoundFunctions,
    functions.describe: answers.FunctionDescription,
    functions.delete: answers.Done,
    endpoints.register: rest.RegisteredEndpoint,
    endpoints.update: rest.RegisteredEndpoint,
    keys.offer: rest.GrantKey,
    keys.activate: rest.KeyVersion,
    endpoints.lock: answers.LockedEndpoint,
    endpoints.allowed_functions: answers.AllowedFunctions,
    endpoints.listing: list[answers.EndpointSummary],
    endpoints.describe: answers.EndpointDescription,
    endpoints.status: answers.EndpointStatus,
    endpoints.delete: answers.Done,
    groups.create: answers.GroupDescription,
    groups.listing: list[answers.Group],
    groups.describe: answers.GroupDescription,
    groups.add: answers.GroupDescription,
    groups.remove: answers.Done,
    groups.delete: answers.Done,
    identities.userinfo: answers.UserInfo,
    identities.identities: answers.Identities,
    webhooks.register: answers.NewWebhook,
    webhooks.listing: answers.Webhooks,
    webhooks.delete: answers.Done,
    actions.introspect: answers.ActionProvider,
    actions.run: answers.ActionStatus,
    actions.status: answers.ActionStatus,
    actions.cancel: answers.ActionStatus,
    actions.release: answers.ActionStatus,
    oauth.token: answers.Tokens,
    oauth.revoke: answers.Revoked,
    oauth.device_authorization: answers.DeviceLogin,
    about.version: answers.Versions | str,
    about.health: answers.Health,
    about.ready: answers.Health,
    about.sizes: about.Sizes,
    blobs.upload: rest.Uploaded,
    blobs.upload_result: rest.Uploaded,
    about.whoami: answers.WhoAmI,
    about.openapi: dict[str, Any],
}
FORMS: Final = frozenset({oauth.token, oauth.revoke, oauth.device_authorization})
"""Handlers that take a form, as OAuth2 has it, instead of JSON."""
PAGES: Final = frozenset(
    {
        pages.device,
        pages.decide,
        pages.login,
        pages.sign_in,
        pages.sign_out,
        elsewhere.leave,
        elsewhere.come_back,
    }
)
"""Handlers that answer browsers, in HTML."""
QUERIES: Final[dict[Handler, tuple[str, ...]]] = {
    functions.search: ("q", "offset", "limit"),
    tasks.listing: ("task_group_id", "limit"),
    endpoints.listing: ("role",),
    identities.identities: ("ids", "usernames"),
    about.version: ("service",),
}
"""What a handler looks for in the query; none is required."""
UPLOADS: Final = frozenset({blobs.upload, blobs.upload_result})
"""Handlers that take bytes as they are."""
DOWNLOADS: Final = frozenset({blobs.arguments, blobs.result})
"""Handlers that give bytes as they are, in parts where ``Range`` asks for them."""
ACCEPTED: Final = frozenset({actions.run})
"""Handlers that may answer 202: what was asked for goes on."""
OPEN: Final = (
    frozenset({about.version, about.health, about.ready, about.openapi, actions.introspect})
    | FORMS
    | PAGES
)
"""Handlers that ask for no bearer token."""

_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


def document(routes: Iterable[Any]) -> dict[str, Any]:
    """The document for all HTTP routes of a table."""
    http = [route for route in routes if isinstance(route, Route)]
    types = [rest.ErrorBody, OAuthRefusal, *TAKES.values(), *GIVES.values()]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    known = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in http:
        path = _PARAMETER.sub(r"{\1}", route.path)
        operations = paths.setdefault(path, {})
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            operations[method.lower()] = _operation(route, method, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "MEP relay", "version": mep.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route, method: str, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    handler = route.endpoint
    words = inspect.getdoc(handler) or ""
    module = handler.__module__.rpartition(".")[2]
    operation: dict[str, Any] = {
        "operationId": f"{module}.{handler.__name__}.{method.lower()}",
        "summary": words.partition("\n")[0],
        "description": words,
        "responses": _responses(handler, known),
    }
    parameters = [_parameter(name) for name in _PARAMETER.findall(route.path)]
    parameters += [_query(name) for name in QUERIES.get(handler, ())]
    if parameters:
        operation["parameters"] = parameters
    if handler in FORMS:
        form = {"type": "object", "additionalProperties": {"type": "string"}}
        content = {"application/x-www-form-urlencoded": {"schema": form}}
        operation["requestBody"] = {"required": True, "content": content}
    if handler in UPLOADS:
        operation["requestBody"] = {"required": True, "content": _BYTES}
    if handler in TAKES:
        content = {"application/json": {"schema": known[repr(TAKES[handler])]}}
        operation["requestBody"] = {"required": True, "content": content}
    if handler in OPEN:
        operation["security"] = []
    return operation


def _responses(handler: Handler, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if handler in PAGES:
        page = {"text/html": {"schema": {"type": "string"}}}
        told = {"description": "A page.", "content": page}
        return {"200": told, "3XX": {"description": "To another page."}, "4XX": told, "5XX": told}
    kind = OAuthRefusal if handler in FORMS else rest.ErrorBody
    refusal = {
        "description": "Refused; the message is a sentence with the remedy.",
        "content": {"application/json": {"schema": known[repr(kind)]}},
    }
    good = _answer(handler, known)
    statuses = ["200"]
    statuses += ["202"] if handler in ACCEPTED else []
    statuses += ["206"] if handler in DOWNLOADS else []
    return {**dict.fromkeys(statuses, good), "4XX": refusal, "5XX": refusal}


def _answer(handler: Handler, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if handler is about.figures:
        text = {"schema": {"type": "string"}}
        return {"description": "Figures.", "content": {"text/plain": text}}
    if handler in DOWNLOADS:
        return {"description": "The bytes.", "content": _BYTES}
    schema = known[repr(GIVES[handler])] if handler in GIVES else {}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
