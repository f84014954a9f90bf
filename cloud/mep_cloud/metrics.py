"""Figures for Prometheus. Labels are of closed lists: route handlers, methods, outcomes.

No label names a user, an endpoint or a function, so that the number of time series is bounded and
nothing is learnt of who does what.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mep_cloud.cluster.homes import Homes
from mep_cloud.hub import Hub

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"})
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """All that is counted in this process."""

    def __init__(self, hub: Hub, homes: Homes | None = None) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Tasks(hub))
        if homes is not None:
            self._registry.register(_Processes(homes))
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "mep_relay_http_requests",
            "HTTP requests by route, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mep_relay_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )

        # Finding a series by its labels costs more than counting.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def shown(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        key = (route, method, status)
        series = self._series.get(key)
        if series is None:
            counted = self._requests.labels(route, method, str(status))
            series = self._series[key] = (counted, self._seconds.labels(route))
        series[0].inc()
        series[1].observe(seconds)


class Counted:
    """The application, with its HTTP requests counted."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        status = 500

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        finally:
            self._metrics.answered(scope, status, self._clock() - began)


def _route(scope: Scope) -> str:
    handler = scope.get("endpoint")
    if handler is None:
        return "none"
    module = getattr(handler, "__module__", "").rpartition(".")[2]
    return f"{module}.{getattr(handler, '__name__', '')}"


class _Tasks(Collector):
    """What the hub knows when it is asked."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """Figures of this moment."""
        delivery = self._hub.delivery
        yield GaugeMetricFamily(
            "mep_relay_unfinished_tasks", "Tasks that have not ended.", delivery.unfinished()
        )
        managers, user_endpoints = delivery.open_links()
        links = GaugeMetricFamily("mep_relay_links", "Open WebSockets.", labels=["kind"])
        links.add_metric(["manager"], managers)
        links.add_metric(["user_endpoint"], user_endpoints)
        links.add_metric(["stream"], max(0, self._hub.connections - managers - user_endpoints))
        yield links
        yield CounterMetricFamily(
            "mep_relay_tasks_submitted", "Tasks accepted.", self._hub.submitted
        )
        ended = CounterMetricFamily("mep_relay_tasks_ended", "Ended tasks.", labels=["outcome"])
        for outcome, count in self._hub.ended.items():
            ended.add_metric([outcome], count)
        yield ended


class _Processes(Collector):
    """Of one of several relay processes."""

    def __init__(self, homes: Homes) -> None:
        self._homes = homes

    def collect(self) -> Iterator[Metric]:
        """Figures of this moment."""
        homes, peers = self._homes.count(), len(self._homes.peers)
        yield GaugeMetricFamily("mep_relay_homes", "Endpoints at home in this process.", homes)
        yield GaugeMetricFamily("mep_relay_peers", "Other relay processes that live.", peers)
