"""The only place where the parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from uuid import uuid4

from imagestream_es.application.commands import Commands
from imagestream_es.application.hub import Hub
from imagestream_es.application.import_controller import ImportController
from imagestream_es.application.imports import Imports
from imagestream_es.application.queries import Queries
from imagestream_es.application.writer import Writer
from imagestream_es.domain.events import Origin
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.store import Store
from imagestream_es.projections.projector import catch_up
from imagestream_es.registry.addresses import Addresses
from imagestream_es.registry.credentials import PullSecrets
from imagestream_es.registry.transport import Transport
from imagestream_es.settings import Settings

POLL = 0.25
"""Seconds between looks for what other processes committed, where there may be some."""


@dataclass(frozen=True)
class Services:
    """The running service: what it can be told and asked, and how to stop it."""

    settings: Settings
    commands: Commands
    queries: Queries
    imports: Imports
    pull_secrets: PullSecrets
    hub: Hub
    import_controller: ImportController | None
    clock: Callable[[], int]
    close: Callable[[], None]

    def drain(self) -> None:
        """End what would go on for ever: watches and imports."""
        if self.import_controller is not None:
            self.import_controller.stop()
        self.hub.close()


def milliseconds() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def make_uid() -> str:
    """A new uid for an object."""
    return str(uuid4())


def open_store(settings: Settings) -> Store:
    """The store that the settings name; its tables may be missing. Raises PersistenceError."""
    if settings.database_url:
        from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

        return PostgresStore(settings.database_url)
    from imagestream_es.persistence.sqlite import SQLiteStore  # noqa: PLC0415

    return SQLiteStore(str(database_file(settings)))


def database_file(settings: Settings) -> Path:
    """Where the embedded log is."""
    return Path(settings.data_dir) / "imagestream.db"


def build(settings: Settings, clock: Callable[[], int] = milliseconds) -> Services:
    """Open the store, bring the views up to date, start the writer.

    Raises DirectoryInUse if another process has the directory, PersistenceError if the store can't be used.
    """
    with ExitStack() as stack:
        if not settings.database_url:
            Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
            stack.enter_context(DirectoryLock(Path(settings.data_dir)))
        store = open_store(settings)
        stack.callback(store.close)
        store.create_tables()
        catch_up(store)
        hub = Hub(store, POLL if settings.database_url else None)
        stack.callback(hub.close)
        writer = Writer(store, settings.internal_registry, hub.committed)
        writer.start(Origin(at=clock(), actor="system:imagestream-es", door="service"), make_uid())
        stack.callback(writer.close)
        hub.start()
        queries = Queries(store)
        transport, secrets = Transport(Addresses(settings.import_allow)), PullSecrets(settings.pull_secrets)
        imports = Imports(writer, queries, make_uid, clock, transport, secrets, settings.max_repository_tags)
        controller = _import_controller(settings, queries, hub, imports)
        if controller is not None:
            controller.start()
            stack.callback(controller.close)
        close = stack.pop_all().close
    commands = Commands(writer, settings.internal_registry, make_uid)
    return Services(settings, commands, queries, imports, secrets, hub, controller, clock, close)


def _import_controller(settings: Settings, queries: Queries, hub: Hub, imports: Imports) -> ImportController | None:
    if settings.import_controller == "off":
        return None
    return ImportController(queries, hub, imports, settings.import_interval.seconds, time.monotonic, SystemRandom())
