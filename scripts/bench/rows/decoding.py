"""What a mapping costs before the writer sees it: reading, checking and filling it in, in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import orjson

from api.call import GROUP_DOOR, Call
from api.resources import image_stream_mappings
from bench.images import digest, mapping
from bench.run import Figures, Run
from imagestream_es.access.identity import User
from imagestream_es.access.policy import Action
from imagestream_es.bootstrap import Services

NAMESPACE = "benchmark"
AT_ONCE = 200


_SERVICES = cast(
    "Services",
    SimpleNamespace(
        commands=SimpleNamespace(map_image=lambda *_args, **_options: None),
        settings=SimpleNamespace(internal_registry="172.30.56.218:5000"),
    ),
)
_USER = User("benchmark")
_ACTION = Action("create", GROUP_DOOR.group, image_stream_mappings.NAME, NAMESPACE, "")


def _call(body: bytes) -> Call:
    """A request as the handler gets it, whose command is never carried out."""
    return Call(
        services=_SERVICES,
        door=GROUP_DOOR,
        namespace=NAMESPACE,
        name="",
        args={},
        user=_USER,
        action=_ACTION,
        identify=lambda: cast("Any", SimpleNamespace()),
        media_type="application/json",
        data=body,
        agent="benchmark",
        kind=image_stream_mappings.KIND,
    )


def decoding(run: Run) -> Figures:
    """Microseconds of CPU for a mapping: parsed alone, decoded and validated, filled in as well; medians of rounds."""
    body = mapping(NAMESPACE, "stream", "latest", digest("decoding"))

    def decode() -> object:
        call = _call(body)
        return call.load(image_stream_mappings.SCHEMA, call.body())

    def fill() -> object:
        call = _call(body)
        call.caller = cast("Any", None)
        return image_stream_mappings.create(call, call.body())

    ways: dict[str, Callable[[], object]] = {
        "orjson alone": lambda: orjson.loads(body),
        "decoded and validated": decode,
        "filled in as well": fill,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    end = time.monotonic() + run.seconds
    run.say("decoding")
    while time.monotonic() < end or len(spent["orjson alone"]) < 3:
        for name, way in ways.items():
            began = time.process_time()
            for _ in range(AT_ONCE):
                way()
            spent[name].append(1e6 * (time.process_time() - began) / AT_ONCE)
    figures: Figures = {f"{name}, us": statistics.median(found) for name, found in spent.items()}
    for name in ("decoded and validated", "filled in as well"):
        pairs = zip(spent[name], spent["orjson alone"], strict=True)
        figures[f"{name}, by orjson alone"] = statistics.median(one / alone for one, alone in pairs)
    return figures | {"bytes": len(body)}
