"""Whether the service is alive and can answer, told as Kubernetes servers tell it.

`/livez` asks only whether requests are handled, `/readyz` and `/healthz` also whether the store answers and whether
its log is the one that it was. With `?verbose` they list their checks, and `/readyz/CHECK` asks for one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flask import Flask, Response, abort, request

from imagestream_es.bootstrap import Services

logger = logging.getLogger(__name__)

Checks = Mapping[str, Callable[[], object]]
"""Each check by its name; it raises what is wrong."""


def add_health(app: Flask, services: Services) -> list[str]:
    """Serve the paths that tell about health; answers these paths, without those of single checks."""
    alive: Checks = {"ping": lambda: None}
    ready: Checks = {
        **alive,
        "store": services.queries.position,
        "writer": services.commands.writer.check,
        "log": services.witness.check,
    }
    paths = {"/healthz": ready, "/livez": alive, "/readyz": ready}
    for path, checks in paths.items():
        _add(app, path, checks)
    return list(paths)


def _add(app: Flask, path: str, checks: Checks) -> None:
    def view(check: str = "") -> Response:
        if check and check not in checks:
            abort(404)
        return _told(path.strip("/"), {check: checks[check]} if check else checks)

    app.add_url_rule(path, path, view)
    app.add_url_rule(f"{path}/<check>", f"{path} check", view)


def _told(name: str, checks: Checks) -> Response:
    passed = {check: _passes(check, ask) for check, ask in checks.items()}
    lines = [f"[+]{check} ok" if fine else f"[-]{check} failed: reason withheld" for check, fine in passed.items()]
    code, text = (200, "ok") if all(passed.values()) else (500, "\n".join([*lines, f"{name} check failed\n"]))
    if code == 200 and "verbose" in request.args:
        text = "\n".join([*lines, f"{name} check passed\n"])
    response = Response(text, code, content_type="text/plain")
    response.headers["Cache-Control"] = "no-cache, private"
    return response


def _passes(check: str, ask: Callable[[], object]) -> bool:
    try:
        ask()
    except Exception as error:
        logger.warning("the health check %s failed: %s", check, error)
        return False
    return True
