"""The only place where the parts are put together."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from imagestream_es.access.files import Reread, Rereader, WrongFile
from imagestream_es.access.gate import Gate, TokenSource
from imagestream_es.access.oidc import Claims, KeyFile, KeySource, Oidc, Provider
from imagestream_es.access.policy import manifests_in, policy_of
from imagestream_es.access.tokens import TokenFile
from imagestream_es.application.commands import Commands
from imagestream_es.application.drawings import Drawings
from imagestream_es.application.freshness import Freshness
from imagestream_es.application.history import History
from imagestream_es.application.hub import Hub
from imagestream_es.application.import_controller import ImportController
from imagestream_es.application.imports import Imports
from imagestream_es.application.limits import Limits
from imagestream_es.application.principals import Principals
from imagestream_es.application.pushes import Pushes
from imagestream_es.application.queries import Queries
from imagestream_es.application.recent import Recent
from imagestream_es.application.sweep import Sweeper
from imagestream_es.application.tally import Tally
from imagestream_es.application.webhook import Webhook
from imagestream_es.application.witness import Witness
from imagestream_es.application.writer import Writer
from imagestream_es.domain.events import Origin
from imagestream_es.persistence.checkpoints import CheckpointFile
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.store import Store
from imagestream_es.projections.projector import catch_up, rebuild
from imagestream_es.registry.addresses import Addresses
from imagestream_es.registry.credentials import PullSecrets
from imagestream_es.registry.internal import InternalRegistry
from imagestream_es.registry.transport import Transport, Url
from imagestream_es.settings import Settings, SettingsError
from imagestream_es.uuids import new_uuid

POLL = 0.25
"""Seconds between looks for what other processes committed, where there may be some."""


@dataclass(frozen=True)
class Services:
    """The running service: what it can be told and asked, and how to stop it."""

    settings: Settings
    commands: Commands
    queries: Queries
    history: History
    imports: Imports
    pull_secrets: PullSecrets
    principals: Principals
    gate: Gate
    limits: Limits
    freshness: Freshness
    memory: Recent
    drawings: Drawings
    hub: Hub
    import_controller: ImportController | None
    webhook: Webhook
    webhook_secret: bytes | None = field(repr=False)
    sweeper: Sweeper
    witness: Witness
    tally: Tally
    clock: Callable[[], int]
    at_close: Callable[[Callable[[], None]], object]
    """Has something called when the service is closed, before its own parts are"""
    close: Callable[[], None]

    def drain(self) -> None:
        """End what would go on for ever: watches and imports, and waiting for a sweep."""
        if self.import_controller is not None:
            self.import_controller.stop()
        self.hub.close()
        self.sweeper.close()


def milliseconds() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def open_store(settings: Settings, *, to_read: bool = False) -> Store:
    """The store that the settings name; its tables may be missing. One opened `to_read` changes no file.

    Raises PersistenceError.
    """
    if settings.database_url:
        from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

        return PostgresStore(settings.database_url)
    from imagestream_es.persistence.sqlite import SQLiteStore, Use  # noqa: PLC0415

    return SQLiteStore(str(database_file(settings)), Use.READ if to_read else Use.SERVE)


def database_file(settings: Settings) -> Path:
    """Where the embedded log is."""
    return Path(settings.data_dir) / "imagestream.db"


def unfinished(path: Path) -> Path:
    """Where the file or the directory is filled that `path` becomes once it is whole."""
    return path.with_name(f"{path.name}.unfinished")


def _require_whole_log(settings: Settings) -> None:
    path = database_file(settings)
    begun = unfinished(path)
    if begun.exists() and not path.exists():
        message = f"{begun} is the begin of a log that was being brought here: run that command again, or remove it."
        raise SettingsError("data_dir", message)


def checkpoint_path(settings: Settings) -> Path | None:
    """Where the service keeps its checkpoints; None if nowhere."""
    if settings.checkpoint_file is None and not settings.database_url:
        return settings.data_dir / "checkpoints"
    return settings.checkpoint_file


def _checkpoint_file(settings: Settings, stack: ExitStack) -> CheckpointFile | None:
    path = checkpoint_path(settings)
    if path is None:
        return None
    try:
        file = CheckpointFile(path)
    except OSError as error:
        raise SettingsError("checkpoint_file", f"cannot write {path}: {error.strerror}.") from error
    stack.callback(file.close)
    return file


def read_secret(settings: Settings) -> bytes | None:
    """The secret of the registry's webhook, None if there is none. Raises SettingsError."""
    file = settings.registry_webhook_secret_file
    if file is None:
        return None
    secret = _read("registry_webhook_secret_file", file).removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise SettingsError("registry_webhook_secret_file", f"{file} is empty.")
    return secret


def internal_registry(settings: Settings) -> InternalRegistry | None:
    """The registry whose pushes are taken in, None without one. Raises SettingsError."""
    if settings.registry_url is None:
        return None
    url = Url.parse(settings.registry_url)
    trust = ssl.create_default_context()
    if settings.registry_ca_file is not None:
        _read("registry_ca_file", settings.registry_ca_file)
        try:
            trust.load_verify_locations(settings.registry_ca_file)
        except ssl.SSLError as error:
            raise SettingsError("registry_ca_file", f"{settings.registry_ca_file} holds no certificate.") from error
    if settings.registry_credentials_file is not None:
        _read("registry_credentials_file", settings.registry_credentials_file)
    transport = Transport(Addresses([url.host, *settings.import_allow]), trust)
    return InternalRegistry(url, transport, settings.registry_credentials_file)


def access(settings: Settings) -> tuple[Gate, Rereader]:
    """Who may come in and what they may do, and what rereads the files that say so. Raises SettingsError."""
    refresh: list[Callable[[], None]] = []
    sources: list[TokenSource] = []
    try:
        setting, rbac = "rbac", settings.rbac
        rules = Reread(lambda: manifests_in(rbac) if rbac else [], policy_of)
        if rbac is not None:
            refresh.append(rules.refresh)
        if settings.token_auth_file is not None:
            setting = "token_auth_file"
            tokens = TokenFile(settings.token_auth_file)
            refresh.append(tokens.refresh)
            sources.append(tokens)
        if settings.oidc_issuer_url is not None:
            setting = "oidc_jwks_file"
            keys = _oidc_keys(settings, settings.oidc_issuer_url, refresh)
            sources.append(Oidc(_claims(settings, settings.oidc_issuer_url), keys))
    except WrongFile as error:
        raise SettingsError(setting, str(error)) from error
    secured, anonymous = settings.authenticates_callers, settings.anonymous_auth == "on"
    return Gate(rules, sources, secured=secured, anonymous=anonymous), Rereader(refresh)


def _claims(settings: Settings, issuer: str) -> Claims:
    return Claims(
        issuer=issuer,
        client_id=settings.oidc_client_id or "",
        username_claim=settings.oidc_username_claim,
        username_prefix=settings.oidc_username_prefix or "",
        groups_claim=settings.oidc_groups_claim or "",
        groups_prefix=settings.oidc_groups_prefix or "",
    )


def _oidc_keys(settings: Settings, issuer: str, refresh: list[Callable[[], None]]) -> KeySource:
    if settings.oidc_jwks_file is not None:
        keys = KeyFile(settings.oidc_jwks_file)
        refresh.append(keys.refresh)
        return keys
    file = settings.oidc_ca_file
    if file is not None:
        _read("oidc_ca_file", file)
    try:
        return Provider(issuer, ssl.create_default_context(cafile=file))
    except ssl.SSLError as error:
        raise SettingsError("oidc_ca_file", f"{file} holds no certificate.") from error


def _read(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(name, f"cannot read {file}: {error.strerror}.") from error


def build(settings: Settings, clock: Callable[[], int] = milliseconds) -> Services:
    """Open the store, bring the views up to date, start the writer.

    Raises SettingsError if a file that they name can't be used, DirectoryInUse or CheckpointFileInUse if another
    process has the directory or that file, PersistenceError if the store can't be used.
    """
    secret, registry = read_secret(settings), internal_registry(settings)
    gate, rereader = access(settings)
    with ExitStack() as stack:
        if not settings.database_url:
            Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
            stack.enter_context(DirectoryLock(Path(settings.data_dir)))
            _require_whole_log(settings)
        store = open_store(settings)
        stack.callback(store.close)
        store.create_tables()
        witness = Witness(store, _checkpoint_file(settings, stack), clock)
        if witness.examine(settings.accept_log):
            rebuild(store)
        else:
            catch_up(store)
        hub = Hub(store, POLL if settings.database_url else None)
        stack.callback(hub.close)
        stack.callback(witness.close)

        def committed(head: int) -> None:
            hub.committed(head)
            witness.committed(head)

        memory = Recent(settings.answer_memory.bytes)
        freshness = Freshness(store, shared=bool(settings.database_url))
        writer = Writer(store, settings.internal_registry, committed, settings.registries[1:], freshness)
        witness.start(writer.refuse)
        writer.start(Origin(at=clock(), actor="system:imagestream-es", door="service"), new_uuid())
        stack.callback(writer.close)
        hub.start()
        commands, queries = Commands(writer, settings.internal_registry, new_uuid), Queries(store)
        transport = Transport(Addresses(settings.import_allow), guarded=settings.registries)
        secrets = PullSecrets(settings.pull_secrets)
        imports = Imports(writer, queries, new_uuid, clock, transport, secrets, settings.max_repository_tags)
        controller = _import_controller(settings, queries, hub, imports)
        if controller is not None:
            controller.start()
            stack.callback(controller.close)
        tally = Tally()
        principals = Principals(store, clock)
        stack.callback(principals.close)
        pushes = Pushes(store, writer, commands, clock, registry, tally, principals.pusher)
        stack.callback(pushes.close)
        pushes.start()
        interval, grace = settings.registry_sweep_interval.seconds, settings.registry_sweep_grace.seconds
        sweeper = Sweeper(store, pushes, registry, clock, tally, interval=interval, grace=grace)
        stack.callback(sweeper.close)
        sweeper.start()
        stack.callback(rereader.close)
        rereader.start()
        parts = stack.pop_all()
    return Services(
        settings,
        commands,
        queries,
        History(queries, principals.names),
        imports,
        secrets,
        principals,
        gate,
        Limits(settings.user_requests_per_second, settings.user_concurrency),
        freshness,
        memory,
        Drawings(queries, memory),
        hub,
        controller,
        Webhook(pushes, tally, clock, sweeper.noticed),
        secret,
        sweeper,
        witness,
        tally,
        clock,
        parts.callback,
        parts.close,
    )


def _import_controller(settings: Settings, queries: Queries, hub: Hub, imports: Imports) -> ImportController | None:
    if settings.import_controller == "off":
        return None
    return ImportController(queries, hub, imports, settings.import_interval.seconds, time.monotonic, SystemRandom())
