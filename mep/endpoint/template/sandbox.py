"""The Jinja environment: sandboxed, strictly undefined, and every value it prints is a token."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

from jinja2 import FileSystemLoader, StrictUndefined, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from mep.endpoint.errors import OptionsRefused, TemplateFailed
from mep.endpoint.template import filters
from mep.endpoint.template.sealed import RESERVED, Sealed, Spelling, Vault, unseal

Test = Callable[..., bool]


class Absent(StrictUndefined):
    """Undefined; using a name that is no option and no variable says what to do about it."""

    __slots__ = ("_is_option",)

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = None
    ) -> None:
        self._is_option = exc is None and obj is missing and hint is None
        if exc is None:
            exc = OptionsRefused if self._is_option else TemplateFailed
        super().__init__(hint, obj, name, exc)

    @property
    def _undefined_message(self) -> str:
        if self._is_option:
            return (
                f"the site's template needs the option {self._undefined_name!r}, which "
                "user_endpoint_config does not set"
            )
        return f"the site's template cannot be rendered: {super()._undefined_message}"


class Sandbox(SandboxedEnvironment):
    """One rendering's environment.

    Args:
        vault: holds what the tokens stand for.
        loader_dir: where ``include``, ``extends`` and ``import`` look, or None.
    """

    intercepted_binops: ClassVar[frozenset[str]] = frozenset({"%"})  # type: ignore[misc]

    def __init__(self, vault: Vault, loader_dir: str | None) -> None:
        loader = FileSystemLoader(loader_dir) if loader_dir else None
        super().__init__(undefined=Absent, finalize=self._print, loader=loader)
        self.vault = vault
        self.filters.clear()
        self.filters.update(filters.for_vault(vault))
        for name in ("lower", "upper", "in"):
            self.tests[name] = _on_native(cast("Test", self.tests[name]))

    def concat(self, pieces: Iterable[str]) -> Any:
        """How compiled templates put their output together: blocks and macros keep tokens."""
        return self.vault.lift("".join(pieces))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Methods of plain strings do not know sealed arguments: call the sealed string's."""
        args = tuple(map(self.vault.lift, args))
        owner = getattr(function, "__self__", None)
        if type(owner) is str and any(isinstance(arg, Sealed) for arg in args):
            function = self._sealed_method(owner, function)
        return self.vault.lift(super().call(context, function, *args, **kwargs))

    def _sealed_method(self, owner: str, function: Any) -> Any:
        if function.__name__ == "join":
            return lambda items: "".join(map(str, _between(owner, items)))
        return getattr(self.vault.seal(owner, Spelling.BARE), function.__name__)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """``%``: the only operator that makes text out of values."""
        left = self.vault.lift(left)
        if isinstance(left, str):
            text = unseal(left) % unseal(right)
            return filters.sealed_text(self.vault, text, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` and ``format_map``: on native values, the result sealed."""
        if super().wrap_str_format(value) is None:
            return None
        owner: str = value.__self__
        if isinstance(owner, Sealed):
            raise SecurityError("a user's value cannot be used as a format")
        formatter = SandboxedFormatter(self)

        def wrapper(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            text = formatter.vformat(owner, unseal(args), unseal(kwargs))
            return filters.sealed_text(self.vault, text, args, kwargs)

        return functools.update_wrapper(wrapper, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if RESERVED.search(source):
            raise TemplateSyntaxError("it contains a private-use character", 1, name, filename)
        tree: nodes.Template = _Rewriter().visit(super()._parse(source, name, filename))
        return tree

    def _print(self, value: Any) -> Any:
        """What ``{{ value }}`` writes into the document.

        Raises:
            TypeError: a value that no YAML document can hold.
        """
        match value:
            case str() | bool() | int() | Undefined():
                return value
            case None:
                return "null"
            case float():
                return value if math.isfinite(value) else _INFINITE.get(value, ".nan")
            case list() | tuple() | dict():
                return self.vault.seal(filters.plain(value), Spelling.WORD)
        raise TypeError(f"{type(value).__name__} cannot be printed into a configuration")


_INFINITE: Mapping[float, str] = {math.inf: ".inf", -math.inf: "-.inf"}


def _between(separator: str, items: Iterable[Any]) -> Iterable[Any]:
    for at, item in enumerate(items):
        if at:
            yield separator
        yield item


def _on_native(test: Test) -> Test:
    @functools.wraps(test)
    def wrapped(*args: Any) -> bool:
        return test(*unseal(args))

    return wrapped


class _Rewriter(NodeTransformer):
    """Two operators that compile to C calls on the characters become filters."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return _filter(filters.CONCATENATE, parts)

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        if node.op in {"in", "notin"}:
            node.expr = _filter(filters.SEARCHABLE, node.expr)
        return node


def _filter(name: str, value: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)
