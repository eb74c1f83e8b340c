"""The service's Prometheus metrics: requests, the queue, batches, jobs and verdicts."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forgerank.serving.service.logs import ACCESS_LOG
from forgerank.types import printable

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "forgerank_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "forgerank_request_seconds",
            "Seconds from a request's first byte to its last.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "forgerank_batch_photographs",
            "Photographs judged together.",
            buckets=_BATCH_SIZES,
            registry=self.registry,
        )
        self.verdicts = Counter(
            "forgerank_verdicts",
            "Photographs answered at once, by verdict.",
            ("verdict",),
            registry=self.registry,
        )
        for verdict in ("real", "forged", "undetermined"):
            self.verdicts.labels(verdict)

    def watch(self, name: str, text: str, label: str, read: Callable[[], Mapping[Any, float]]) -> None:
        """Add a metric that is read when it is asked for: `read` returns a number per value of `label`."""
        self.registry.register(_Watched(name, text, label, read))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(self, name: str, text: str, label: str, read: Callable[[], Mapping[Any, float]]) -> None:
        self._name, self._text, self._label, self._read = name, text, label, read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [GaugeMetricFamily(self._name, self._text, labels=[self._label])]  # reads nothing yet

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        return [family]


class MetricsMiddleware:
    """ASGI middleware that counts, times and, with `access_log`, logs every request.

    A line has client, number of the key, method, path, status and seconds, but no query: it can hold the name
    of a person's file. Probes that are well are not logged.
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics, access_log: bool) -> None:
        self.app, self.metrics, self._access_log = app, metrics, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            # Routes and known methods only: a client must not be able to make up labels.
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            seconds = time.perf_counter() - started
            self.metrics.seconds.labels(method, route).observe(seconds)
            if self._access_log and not (route in _PROBES and status < 400):
                _log_access(scope, method, status, seconds)


def _log_access(scope: Scope, method: str, status: int, seconds: float) -> None:
    client = (scope.get("client") or ("-",))[0]
    key = scope.get("state", {}).get("key", "-")
    path = printable(scope["path"])[:_PATH_LENGTH]
    logging.getLogger(ACCESS_LOG).info("%s %s %s %s %d %.3f", client, key, method, path, status, seconds)


_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_PATH_LENGTH = 200


_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
