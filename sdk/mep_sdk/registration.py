"""Functions as the relay registers them: serialized ones, and ones given by their source."""

import inspect
import platform
from typing import Any

from mep import __version__
from mep.wire import codes, limits
from mep.wire.rest import FunctionMeta, RegisterFunction
from mep_sdk.arguments import json_object
from mep_sdk.errors import PayloadTooLarge
from mep_sdk.functions import Known


def of_known(function: Known, sharing: dict[str, Any]) -> RegisterFunction:
    """A function that has been serialized.

    Args:
        function: it.
        sharing: the keyword arguments of :meth:`mep_sdk.Client.register_function` besides.

    Raises:
        PayloadTooLarge: it cannot be registered.
    """
    code = function.body.decode()
    return _registration(function.name, code, function.description, sharing, serialized=True)


def of_source(
    source: str, function_name: str, description: str | None, sharing: dict[str, Any]
) -> RegisterFunction:
    """A function of a module whose source this is.

    Raises:
        SyntaxError: the source is no Python of this version.
        ValueError: the source does not mention `function_name`.
        PayloadTooLarge: it cannot be registered.
    """
    source = inspect.cleandoc(source) if source[:1].isspace() else source
    names = compile(source, "<source>", "exec", dont_inherit=True).co_names
    if function_name not in names:
        raise ValueError(f"the source does not define {function_name!r}")
    return _registration(function_name, source, description, sharing, serialized=False)


def _registration(
    name: str, code: str, description: str | None, sharing: dict[str, Any], *, serialized: bool
) -> RegisterFunction:
    if len(code.encode()) > limits.FUNCTION:
        raise PayloadTooLarge(
            413,
            codes.TASK_PAYLOAD_TOO_LARGE,
            f"function {name} has {len(code):,} bytes with all it refers to, more than the "
            f"{limits.FUNCTION:,} that can be registered; pass large data as files",
        )
    json_object(sharing.get("labels"), "labels")
    sharing = dict(sharing)
    about = {each: sharing.pop(each, None) for each in ("container", "labels")}
    return RegisterFunction(
        function_name=name,
        function_code=code,
        serialized=serialized,
        meta=FunctionMeta(platform.python_version(), __version__, **about),
        description=description,
        **sharing,
    )
