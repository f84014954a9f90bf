"""Functions and arguments reach a Python that has none of the user's modules."""

import importlib
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dill
import pytest
from mep_sdk.by_value import is_users_own
from mep_sdk.errors import SerializationError
from mep_sdk.outcome import as_local, with_lines
from mep_sdk.serialize import Serializer, dump_arguments, dump_function
from mep_sdk.source import plain_source

import mep
from mep import payload
from mep.wire.strategies import strategy_id

MODULE = '''
import functools
import math
import typing
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field

FACTOR = 3


class OwnError(Exception):
    def __init__(self, n):
        super().__init__(n)
        self.n = n


class Shape(ABC):
    @abstractmethod
    def area(self): ...


class Square(Shape):
    sides = 4

    def __init__(self, side):
        super().__init__()
        self.side = side

    def area(self):
        return self.side ** 2 * FACTOR

    @property
    def twice(self):
        return 2 * self.area()

    @classmethod
    def unit(cls):
        return cls(1)

    @staticmethod
    def name():
        return "square"


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


@dataclass
class Point:
    x: int
    y: float = 2.0
    tags: list = field(default_factory=list)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


def uses_globals(x):
    return math.floor(x) * FACTOR


def uses_classes(side):
    square = Square(side)
    return (square.area(), square.twice, Square.unit().area(), Square.name(), Slotted(5).a)


def uses_dataclass(x):
    return asdict(Point(x, tags=["t"]))


def fails(n):
    raise OwnError(n)


def nested(n):
    def inner(k):
        return 1 if k < 2 else k * inner(k - 1)
    return inner(n)


def make_recursive(base):
    def recursive(k):
        return base if k < 1 else recursive(k - 1)
    return recursive


def decorated_with(function):
    @functools.wraps(function)
    def wrapper(*args):
        return ["decorated", function(*args)]
    return wrapper


@decorated_with
def decorated(x):
    return x


def total(point):
    return point.x + point.y


def plain(a, *, b=(1, 2)):
    """Says everything itself."""
    return [len(b), a, sorted(str(n) for n in b)]


def annotated(a: typing.Any, b: "OwnError" = None) -> typing.Optional[int]:
    return a


def own_print(x):
    return print(x)


def print(x):
    return ["mine", x]


def default(a=FACTOR):
    return a


def counts():
    global FACTOR
    FACTOR = 1


def keyword(*, k=1):
    return k


tripled = lambda x: 3 * x
shifted = functools.partial(pow, 2)
'''

WORKER = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from mep import payload
try:
    import usermod_of_the_test
except ModuleNotFoundError:
    pass
else:
    sys.exit("the worker can import the user's module")
ended = []
for body, arguments in pickle.load(sys.stdin.buffer):
    args, kwargs = payload.load_arguments(arguments)
    try:
        ended.append((True, payload.dump_result(payload.load_function(body)(*args, **kwargs))))
    except Exception as error:
        ended.append((False, payload.dump_exception(error)))
pickle.dump(ended, sys.stdout.buffer)
"""


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module that lies beside the user's script."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "usermod_of_the_test.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("usermod_of_the_test")
    sys.path.remove(str(folder))
    del sys.modules["usermod_of_the_test"]


def remotely(*calls: tuple[Any, tuple[Any, ...]], python: str = sys.executable) -> list[Any]:
    """What another Python makes of the calls: values, or (packed exception, traceback)."""
    sent = [(dump_function(f), dump_arguments(args, {})) for f, args in calls]
    root = str(Path(mep.__file__).parent.parent)
    done = subprocess.run(
        [python, "-c", WORKER, root], input=pickle.dumps(sent), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    ended = pickle.loads(done.stdout)
    return [payload.load_result(what) if good else what for good, what in ended]


def test_functions_of_a_module_that_the_worker_lacks(users: ModuleType) -> None:
    u = users
    assert remotely(
        (u.uses_globals, (2.5,)),
        (u.uses_classes, (2,)),
        (u.uses_dataclass, (1,)),
        (u.even, (10,)),
        (u.nested, (5,)),
        (u.make_recursive("base"), (3,)),
        (u.decorated, (1,)),
        (u.plain, (4,)),
        (u.annotated, (4,)),
        (u.own_print, (1,)),
        (u.default, ()),
        (u.keyword, ()),
        (u.tripled, (2,)),
        (u.shifted, (3,)),
        (pow, (2, 5)),
        (u.Square(3).area, ()),
    ) == [
        6,
        (12, 24, 3, "square", 5),
        {"x": 1, "y": 2.0, "tags": ["t"]},
        True,
        120,
        "base",
        ["decorated", 1],
        [2, 4, ["1", "2"]],
        4,
        ["mine", 1],
        3,
        1,
        6,
        8,
        32,
        27,
    ]


def test_arguments_of_the_user_s_own_classes(users: ModuleType) -> None:
    assert remotely((users.total, (users.Point(1),))) == [3.0]


def test_the_user_s_own_exception_comes_back_as_that(users: ModuleType) -> None:
    ((packed, text),) = remotely((users.fails, (7,)))
    loaded = payload.load_exception(packed)
    assert loaded is not None
    assert not isinstance(loaded, users.OwnError)  # a copy of the class came back
    local = as_local(loaded)
    assert isinstance(local, users.OwnError)
    assert local.n == 7
    assert "in fails" in text


def test_a_class_that_has_another_layout_now_is_left_alone() -> None:
    class Local:
        __slots__ = ("a",)

    remote = type("Local", (), {"__module__": __name__, "__qualname__": "_local"})
    globals()["_local"] = Local
    value = remote()
    try:
        assert as_local(value) is value
        assert type(value) is remote
    finally:
        del globals()["_local"]


def test_plain_source_is_taken_where_it_says_everything(users: ModuleType) -> None:
    assert plain_source(users.plain) == textwrap.dedent(
        '''\
        def plain(a, *, b=(1, 2)):
            """Says everything itself."""
            return [len(b), a, sorted(str(n) for n in b)]
        '''
    )
    assert dump_function(users.plain).split(b"\n")[1] == b"st"
    late = plain_source(users.annotated)
    assert late is not None
    assert late.startswith("from __future__ import annotations\n")


@pytest.mark.parametrize(
    "name",
    [
        *("uses_globals", "uses_classes", "even", "decorated", "own_print", "default", "counts"),
        *("tripled", "shifted"),
    ],
)
def test_what_needs_more_than_its_source_goes_by_value(users: ModuleType, name: str) -> None:
    assert plain_source(getattr(users, name)) is None


def test_a_file_that_has_changed_since_is_not_taken(tmp_path: Path) -> None:
    script = tmp_path / "changed_since.py"
    script.write_text("def f():\n    return 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("changed_since")
        script.write_text("def f():\n    return 'another'\n")
        assert plain_source(module.f) is None
        assert remotely((module.f, ())) == [1]
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["changed_since"]


def test_buffers_need_nothing_but_dill_to_be_loaded(users: ModuleType) -> None:
    body = dump_function(users.uses_classes)
    code = payload.unpack(body)[0]
    assert code.startswith("01\n")
    import base64
    import pickletools

    pickled = base64.b64decode(code[3:])
    modules = {
        str(argument)
        for opcode, argument, _ in pickletools.genops(pickled)
        if "UNICODE" in opcode.name and str(argument).split(".")[0] in ("mep", "mep_sdk")
    }
    assert modules == set()
    assert dill.loads(pickled)(2)[0] == 12


def test_whose_a_module_is(users: ModuleType) -> None:
    assert is_users_own(users.__name__)
    assert is_users_own("__main__")
    assert not is_users_own("json")
    assert not is_users_own("builtins")
    assert not is_users_own("dill._dill")


def test_a_lazy_proxy_is_not_asked_what_it_is() -> None:
    class Proxy:
        def __reduce__(self) -> Any:
            return int, (7,)

        @property
        def __class__(self) -> Any:
            raise AssertionError("resolved")

    args, _ = payload.load_arguments(dump_arguments((Proxy(),), {}))
    assert args == (7,)


@pytest.mark.parametrize(("data", "code"), [("11", "st"), ("JSONData", "AllCodeStrategies")])
def test_chosen_serializers(users: ModuleType, data: str, code: str) -> None:
    serializer = Serializer(code=code, data=data)
    assert payload.unpack(serializer.arguments((1,), {}))[0] == "11\n[1]"
    assert payload.load_function(serializer.function(users.plain))(1)[1] == 1
    with pytest.raises(SerializationError):
        serializer.arguments(({1},), {})


def test_strategies_by_any_name() -> None:
    assert strategy_id("globus_compute_sdk.serialize.JSONData") == "11"
    with pytest.raises(ValueError, match="unknown serialization strategy 'xx'"):
        Serializer(data="xx")


def test_a_function_that_cannot_be_serialized_is_named() -> None:
    lock = __import__("threading").Lock()
    generator = (n for n in "ab")

    def holds() -> Any:
        return lock, next(generator)

    with pytest.raises(SerializationError, match="function holds cannot be serialized"):
        dump_function(holds)


def test_lines_of_the_user_s_script_are_put_into_a_remote_traceback(users: ModuleType) -> None:
    line = users.fails.__code__.co_firstlineno + 1
    shown = with_lines(
        "Traceback (most recent call last):\n"
        f'  File "{users.__file__}", line {line}, in fails\n'
        '  File "/nowhere/else.py", line 3, in g\n'
        "    its_own_line()\n"
        '  File "/nowhere/at_all.py", line 3, in h\n'
        "OwnError: 7\n"
    )
    assert shown.splitlines()[2:] == [
        "    raise OwnError(n)",
        '  File "/nowhere/else.py", line 3, in g',
        "    its_own_line()",
        '  File "/nowhere/at_all.py", line 3, in h',
        "OwnError: 7",
    ]
    assert with_lines("") == ""
