"""The source of a function, where the source alone says everything about it.

Such a function works on any Python that understands it, needs no dill on either side, and its
lines show in remote tracebacks. Whatever needs more than its source goes by value instead
(:mod:`mep_sdk.by_value`).
"""

import ast
import builtins
import inspect
import symtable
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

_LATE_ANNOTATIONS = "from __future__ import annotations\n"


def plain_source(function: Any) -> str | None:
    """Source that defines `function` wherever it is executed, or None.

    None for what is no plain function (lambda, decorated, closure, default values that are not
    literals), for one that needs a global of its module, and for one whose file no longer says
    what runs here.
    """
    if type(function) is not FunctionType or function.__closure__ or function.__dict__:
        return None
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not _is_one_plain_definition(tree, function) or not _runs_the_same(source, function):
        return None
    if _free_names(source) <= {function.__name__, *_untouched_builtins(function)}:
        return source
    late = _LATE_ANNOTATIONS + source
    needed = _free_names(late) - _annotation_names(tree)
    return late if needed <= {function.__name__, *_untouched_builtins(function)} else None


def _is_one_plain_definition(tree: ast.Module, function: FunctionType) -> bool:
    if len(tree.body) != 1:
        return False
    (definition,) = tree.body
    if not isinstance(definition, ast.FunctionDef) or definition.name != function.__name__:
        return False
    arguments = definition.args
    defaults = [*arguments.defaults, *(node for node in arguments.kw_defaults if node is not None)]
    return not definition.decorator_list and all(map(_is_literal, defaults))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _runs_the_same(source: str, function: FunctionType) -> bool:
    """Whether the source compiles to the code that runs here: files change under a process."""
    module = compile(source, "<source>", "exec", dont_inherit=True)
    codes = [const for const in module.co_consts if isinstance(const, CodeType)]
    return any(_same(code, function.__code__) for code in codes)


def _same(one: CodeType, other: CodeType) -> bool:
    if (one.co_code, one.co_names, one.co_varnames) != (
        other.co_code,
        other.co_names,
        other.co_varnames,
    ):
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    pairs = zip(one.co_consts, other.co_consts, strict=True)
    return all(
        _same(a, b)
        if isinstance(a, CodeType) and isinstance(b, CodeType)
        else (a == b and type(a) is type(b))
        for a, b in pairs
    )


def _free_names(source: str) -> set[str]:
    """Names that the definition and all scopes within it look up in the module or in builtins."""
    top = symtable.symtable(source, "<source>", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    for table in _scopes(top):
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return names


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _annotation_names(tree: ast.Module) -> set[str]:
    """Names that stand in annotations of the signature and nowhere else."""
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    roots = [each.annotation for each in every] + [definition.returns]
    inside = [node for root in roots if root is not None for node in ast.walk(root)]
    annotated = {node.id for node in inside if isinstance(node, ast.Name)}
    known = {id(node) for node in inside}
    elsewhere = {
        node.id
        for node in ast.walk(definition)
        if isinstance(node, ast.Name) and id(node) not in known
    }
    return annotated - elsewhere


def _untouched_builtins(function: FunctionType) -> set[str]:
    """Names of builtins that the function's module has not replaced by something of its own."""
    return {name for name in vars(builtins) if name not in function.__globals__}
