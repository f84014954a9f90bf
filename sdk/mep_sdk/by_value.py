"""dill buffers that hold the user's own functions and classes themselves, not references to them.

dill writes a function of an importable module as a reference, and a worker rarely has the modules
that lie beside the user's script. What is installed (the standard library, site-packages) goes by
reference; everything else goes by value, with the globals that it uses.

The pickles need nothing but dill and the standard library to be loaded, so that any worker that
knows Globus Compute's buffers can load them.
"""

import base64
import dataclasses
import dis
import functools
import io
import pickle
import site
import sys
import sysconfig
from abc import ABCMeta
from collections.abc import Iterator
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

import dill
from dill._dill import _create_function, _create_type

from mep.payload.raw import PROTOCOL, Gathered, Piece

_SKELETON = ("__module__", "__doc__", "__slots__", "__qualname__")
"""Attributes that a class must have from the start."""
_MARKS = {
    id(value): name
    for name, value in vars(dataclasses).items()
    if type(value).__module__ == "dataclasses"
}
"""MISSING and the like, which dataclasses compare by identity: they go by reference."""
_MADE_BY_PYTHON = ("__dict__", "__weakref__", "_abc_impl", *_SKELETON)


def dumps(value: Any) -> str:
    """The body of a ``01`` buffer.

    Raises:
        Exception: whatever the objects within `value` raise when they are pickled.
    """
    file = io.BytesIO()
    _Pickler(file, recurse=True).dump(value)
    return base64.b64encode(file.getvalue()).decode()


def gathered(value: Any) -> list[Piece]:
    """The pieces of a raw payload, to be written before anything in `value` is changed.

    Raises:
        Exception: whatever the objects within `value` raise when they are pickled.
    """
    file = Gathered()
    _Pickler(file, PROTOCOL, buffer_callback=file.out_of_band, recurse=True).dump(value)
    return file.pieces(dill=True)


def is_users_own(module: str | None) -> bool:
    """Whether the module lies beside the user's scripts, not in an installed package."""
    if module in (None, "__main__", "__mp_main__"):
        return True
    found = sys.modules.get(str(module))
    return found is None or not _is_installed(getattr(found, "__file__", None))


@functools.cache
def _is_installed(file: str | None) -> bool:
    if file is None:  # built in
        return True
    where = Path(file).resolve()
    return any(where.is_relative_to(root) for root in _installed_roots())


@functools.cache
def _installed_roots() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [sysconfig.get_path(name) for name in names]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(Path(place).resolve() for place in places)


class _Pickler(dill.Pickler):  # type: ignore[misc]
    """dill's pickler, with the user's own functions and classes by value.

    Both are written in two steps, as they may refer to themselves: first an empty one, which is
    remembered; then what it holds.
    """

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if id(obj) in self.memo:
            super().save(obj, save_persistent_id)
        elif id(obj) in _MARKS:
            self.save_global(obj, _MARKS[id(obj)])
        elif not _by_value(obj):
            super().save(obj, save_persistent_id)
        elif type(obj) is FunctionType:
            self._save_function(obj)
        else:
            self._save_class(obj)

    def _save_function(self, function: FunctionType) -> None:
        namespace = {"__name__": function.__module__}
        cells = tuple(CellType() for _ in function.__closure__ or ())
        made = (function.__code__, namespace, function.__name__, function.__defaults__, None)
        if cells:
            made = (*made[:-1], cells)  # type: ignore[assignment]
            self._keep(cells)
        self._keep(namespace)
        self.save_reduce(_create_function, made, obj=function)
        for name, value in _used_globals(function):
            self._then(_set_item, namespace, name, value)
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            for content in _content(original):
                self._then(setattr, cell, "cell_contents", content)
        for name in ("__qualname__", "__module__", "__doc__", "__kwdefaults__", "__annotations__"):
            if value := getattr(function, name):
                self._then(setattr, function, name, value)
        for name, value in function.__dict__.items():
            self._then(setattr, function, name, value)

    def _save_class(self, cls: type) -> None:
        attributes = dict(cls.__dict__)
        skeleton = {name: attributes[name] for name in _SKELETON if name in attributes}
        self.save_reduce(_create_type, (type(cls), cls.__name__, cls.__bases__, skeleton), obj=cls)
        self._then(setattr, cls, "__qualname__", cls.__qualname__)
        slots = skeleton.get("__slots__", ())
        generated = {*_MADE_BY_PYTHON, *((slots,) if isinstance(slots, str) else slots)}
        for name, value in attributes.items():
            if name not in generated:
                self._then(setattr, cls, name, value)

    def _then(self, call: Any, *arguments: Any) -> None:
        """Make the reader call something, for its effect."""
        self._keep(arguments)
        self.save_reduce(call, arguments)
        self.write(pickle.POP)

    def _keep(self, value: Any) -> None:
        """The memo knows objects by their address: temporary ones must outlive the pickling."""
        self.__dict__.setdefault("_kept", []).append(value)


def _by_value(obj: Any) -> bool:
    # By type(), not isinstance(): asking a lazy proxy for its class would load what it stands for.
    kind = type(obj)
    if kind is FunctionType:
        return is_users_own(obj.__module__) or not _is_found(obj)
    return kind in (type, ABCMeta) and obj.__module__ != "builtins" and is_users_own(obj.__module__)


def _is_found(obj: Any) -> bool:
    """Whether a reference to a function would find it again."""
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _used_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _global_names(code: CodeType) -> set[str]:
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
    }
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= _global_names(const)
    return names


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # empty: its variable is not assigned yet
        return ()


_set_item = dict.__setitem__
