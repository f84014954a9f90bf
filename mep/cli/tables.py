"""Tables on the terminal, and text in them that others wrote."""

from collections.abc import Iterable, Sequence
from typing import Any


def plain(text: str) -> Any:
    """Text that others wrote, without markup."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))


def show(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; what others wrote must be :func:`plain` in it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
