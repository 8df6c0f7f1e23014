"""What Prometheus may ask for: counts of requests, and what the parts of the service counted themselves.

Labels have few values: resources are those that are declared, never what stands in a URL.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate, pairwise

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.told import Told
from imagestream_es.application.writer import MAX_BATCH, Unavailable
from imagestream_es.bootstrap import Services

PATH = "/metrics"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestMetrics:
    """Hears of requests and counts them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("verb", "resource")
        self._count = Counter(
            "imagestream_requests", "Requests that were answered.", (*labels, "code"), registry=registry
        )
        self._seconds = Histogram(
            "imagestream_request_duration_seconds",
            "How long requests took, but for watches.",
            labels,
            registry=registry,
            buckets=SECONDS,
        )
        # To look a child up is most of what it costs to count.
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def __call__(self, told: Told, seconds: float) -> None:
        """Count a request."""
        labels = told.verb, told.resource
        count = self._counts.get((*labels, told.code))
        if count is None:
            count = self._counts[*labels, told.code] = self._count.labels(*labels, told.code)
        count.inc()
        if told.lasting:
            return
        durations = self._durations.get(labels)
        if durations is None:
            durations = self._durations[labels] = self._seconds.labels(*labels)
        durations.observe(seconds)


class _Parts(Collector):
    """What the parts of the service know, asked when somebody wants to know."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now; without those of the store if it can't be read."""
        services, writer = self._services, self._services.commands.writer
        yield _counter("imagestream_commands", "Commands, by what became of them.", writer.outcomes.counts())
        yield _gauge("imagestream_writer_queue_depth", "Commands that wait for the writer.", writer.waiting)
        yield _batches(dict(writer.batches))
        yield _gauge("imagestream_watches_open", "Watches that are open.", services.hub.count)
        webhook = services.tally.counts()
        yield _counter("imagestream_webhook_events", "Events of the registry, by what became of them.", webhook)
        imports = CounterMetricFamily(
            "imagestream_imports", "Imports of images, by who asked and what became of them.", labels=("by", "outcome")
        )
        controller = services.import_controller
        asked = {
            "client": services.imports.outcomes.counts(),
            "controller": controller.outcomes.counts() if controller else {},
        }
        for by, outcomes in asked.items():
            for outcome, count in outcomes.items():
                imports.add_metric((by, outcome), count)
        yield imports
        try:
            head, folded = services.queries.progress()
        except Unavailable:
            return
        yield _gauge("imagestream_log_position", "Position of the last event of the log.", head)
        yield _gauge("imagestream_projection_lag_events", "Events that the views do not show yet.", head - folded)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, outcomes: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=("outcome",))
    for outcome, count in outcomes.items():
        family.add_metric((outcome,), count)
    return family


def _batches(batches: Mapping[int, int]) -> Metric:
    bounds = [2**power for power in range(MAX_BATCH.bit_length())]
    counts = [
        sum(count for size, count in batches.items() if low < size <= high) for low, high in pairwise((0, *bounds))
    ]
    buckets = [(str(float(bound)), float(count)) for bound, count in zip(bounds, accumulate(counts), strict=True)]
    buckets.append(("+Inf", buckets[-1][1]))
    total = sum(size * count for size, count in batches.items())
    family = HistogramMetricFamily("imagestream_writer_batch_size", "Commands that were committed together.")
    family.add_metric((), buckets, total)
    return family


def add_metrics(app: Flask, services: Services) -> tuple[RequestMetrics, str]:
    """Serve the metrics; answers what counts requests, and the path."""
    registry = CollectorRegistry()
    counts = RequestMetrics(registry)
    registry.register(_Parts(services))
    ProcessCollector(registry=registry)
    build = Info("imagestream_build", "The version of the service.", registry=registry)
    build.info({"version": version("imagestream-es"), "python": platform.python_version()})

    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    app.add_url_rule(PATH, PATH, metrics)
    return counts, PATH
