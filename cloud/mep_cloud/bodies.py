"""Function bodies, the recently used ones in memory."""

from collections import OrderedDict
from typing import Final

from mep.wire.tasks import Function
from mep_cloud.store.functions import Functions

CACHE_BYTES: Final = 64 * 1024 * 1024


class Bodies:
    """A cache over the store. A body never changes once it is registered."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._kept: OrderedDict[str, Function] = OrderedDict()
        self._bytes = 0

    async def get(self, function_id: str) -> Function:
        """The body of a function that some task names."""
        kept = self._kept.get(function_id)
        if kept is not None:
            self._kept.move_to_end(function_id)
            return kept
        function = Function(function_id, await self._functions.body(function_id))
        if function_id not in self._kept:
            self._keep(function)
        return function

    def _keep(self, function: Function) -> None:
        self._kept[function.function_id] = function
        self._bytes += len(function.body)
        while self._bytes > CACHE_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body)
