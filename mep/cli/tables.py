"""Tables on the terminal, and text in them that others wrote."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

ANY_WIDTH: Final = 10_000
"""Of a pipe or a file, where there is no edge."""


def plain(text: str) -> Any:
    """Text that others wrote, without markup."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))


def show(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; what others wrote must be :func:`plain` in it.

    Nothing is cut off: what is too wide for the terminal goes on in the next line, but for the
    first column, whose values people copy.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=ANY_WIDTH)
    console.print(table)
