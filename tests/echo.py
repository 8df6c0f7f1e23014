"""A stand-in for the application that tells what reaches it, for tests of the server under it."""

from __future__ import annotations

import textwrap
from pathlib import Path

SOURCE = """
    import os, threading
    from flask import Flask, Response, request
    from imagestream_es import bodies, front, server

    bodies.LOOK_SECONDS = 0.1
    for name, module, constant in (
        ("BODY", bodies, "BODY_SECONDS"),
        ("CROWDED", bodies, "CROWDED_BODY_SECONDS"),
        ("HANDSHAKE", front, "HANDSHAKE_SECONDS"),
        ("RELOAD", front, "RELOAD_SECONDS"),
        ("IDLE", server, "_IDLE_SECONDS"),
        ("UNREAD", server, "_UNREAD_SECONDS"),
    ):
        if name in os.environ:
            setattr(module, constant, int(os.environ[name]))

    class Service:
        def __init__(self):
            self.draining, self.told = threading.Event(), threading.Condition()

        def close(self):
            pass

        def drain(self):
            self.draining.set()
            with self.told:
                self.told.notify_all()

    def create_app(settings):
        app = Flask("echo")
        service = app.extensions["imagestream"] = Service()

        @app.get("/who")
        def who():
            keys = ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
            return {
                "certificate": request.environ.get("imagestream.client_certificate"),
                "environ": {key: request.environ[key] for key in keys},
                "headers": {key: value for key, value in request.environ.items() if key.startswith("HTTP_")},
            }

        @app.post("/echo")
        def echo():
            return request.get_data()

        @app.get("/bytes/<int:count>")
        def some(count):
            return b"x" * count

        @app.get("/path/<path:path>")
        def path(path):
            return str(len(path))

        @app.post("/tell")
        def tell():
            with service.told:
                service.told.notify_all()
            return ""

        @app.get("/watch")
        def watch():
            def lines():
                yield b"hello\\n"
                while not service.draining.is_set():
                    with service.told:
                        service.told.wait()
                    yield b"told\\n"
            return Response(lines())

        @app.get("/endless")
        def endless():
            return Response(b"x" * 65536 for _ in iter(int, 1))

        @app.get("/threads")
        def threads():
            return str(len(os.listdir("/proc/self/task")))

        return app
"""


def echo_environment(directory: Path) -> dict[str, str]:
    """The environment in which `imagestream-es serve` serves this instead of the application."""
    package = directory / "echo" / "api"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(SOURCE))
    return {"PYTHONPATH": str(package.parent)}
