"""Runs the Flask application under granian, inside the one process whose pid the operator sees.

granian's own `Server` starts a worker process and watches over it. The service has one log with one writer,
so a second process gains nothing, and a parent killed with SIGKILL would leave a child that holds the port and
the data directory until some watchdog in the child notices. Here granian's worker is driven directly: one
process, no children, nothing left behind by any kind of death, and less code than a watchdog. Both ways start
equally fast (0.1 s to the first answer). The price is granian's internal interface, hence the narrow version
in pyproject.toml.

A start: check the settings, bind, build the application (recovery included), listen, print the URL.
A stop (SIGTERM, SIGINT): stop listening, have the service end its watches, wait for requests, close it.
"""

import asyncio
import errno
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import granian._futures
import granian._granian
from flask import Flask
from granian.http import HTTP1Settings

from imagestream_es import logfmt
from imagestream_es.bodies import Bodies, Body
from imagestream_es.front import Front
from imagestream_es.later import Later
from imagestream_es.settings import Address, Settings, SettingsError
from imagestream_es.sockets import Connections

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long running requests may go on after SIGTERM or SIGINT."""

_BACKLOG = 1024
_CONNECTIONS = 8192
"""No more are accepted."""
_HEADER_BYTES = 64 * 1024
_IDLE_SECONDS = 75
"""How long a client may take for the line and the headers of a request, the wait for its first byte included.

So an idle connection ends, too: a bit later than proxies end theirs (60 s is common), lest they use it meanwhile.
"""
_UNREAD_SECONDS = 120
"""How long a client may leave what it is sent unread, or be silent in the network's sense."""


def serve(settings: Settings, create_app: Callable[[Settings], Flask]) -> None:
    """Serve until SIGTERM or SIGINT; prints one line with the URL on stdout once requests are accepted.

    `create_app(settings)` returns the application with a service in `app.extensions["imagestream"]`. Its
    `drain()` is called at the signal, to end the requests that would otherwise go on for ever (watches), and its
    `close()` after the last request.

    Raises SettingsError when a setting does not work here, OSError when the machine refuses something else,
    and whatever `create_app` raises.
    """
    log_to_stderr()
    load_tls = _tls(settings)
    listener = _bind(settings)
    if not settings.database_url:
        _make_data_dir(settings.data_dir)
    _allow_many_connections()
    app = create_app(settings)
    service = app.extensions["imagestream"]
    # What is there now stays: no garbage collection, for which every request waits, goes through it again.
    gc.freeze()
    directory = None if settings.database_url else settings.data_dir / "connections"
    front = Front(listener, load_tls, _tls_files(settings), _CONNECTIONS, directory) if load_tls else None
    try:
        _listen(listener, settings.bind)
        url = _url(listener, https=front is not None)
        signals = _stop_signals()
        shutdown, drained = _start_worker(app, front or listener, settings.request_threads)
        _warn(settings)
        print(f"Serving on {url}", flush=True)
        os.read(signals, 1)
        until = time.monotonic() + DRAIN_SECONDS
        if front:
            front.stop()
        shutdown.set()
        service.drain()
        finished = drained.wait(DRAIN_SECONDS)
        if front:
            finished &= front.finish(until - time.monotonic())
    finally:
        if front:
            front.remove()
        service.close()
    if not finished:
        logger.warning("requests were cut off: not finished %.0f seconds after the signal", DRAIN_SECONDS)
    _leave_at_once()


def _leave_at_once() -> None:
    """Exit with status 0, past the interpreter's own shutdown.

    Threads still in a request would disturb it, and it would wait for those that wait for a registry.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stop_signals() -> int:
    """A file descriptor on which a byte arrives for each signal to stop.

    Waiting in Python for what a Python handler does can wait for ever: a signal between the interpreter's last look
    and the system call, or one taken by a thread of granian's, interrupts nothing. The byte is written at once.
    """
    arrived, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return arrived


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError("data_dir", f"cannot make {path}: {error.strerror}.") from error


# --- the socket


def _bind(settings: Settings) -> socket.socket:
    """A socket bound as asked, not listening yet: a taken port is found before the log is touched."""
    family, address = _resolve(settings.bind)
    _refuse_exposure(settings, address[0])
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # restart at once after a kill
        _set_timeouts(listener)
        listener.bind(address)
    except OSError as error:
        raise _cannot_listen(settings.bind, error) from error
    return listener


def _set_timeouts(listener: socket.socket) -> None:
    """What accepted connections inherit: they are quick, and end when the client reads nothing or is gone."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _UNREAD_SECONDS // 2)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _UNREAD_SECONDS // 8)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_SECONDS * 1000)


def _listen(listener: socket.socket, bind: Address) -> None:
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _cannot_listen(bind, error) from error


def _cannot_listen(bind: Address, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError("bind", f"{bind} is in use by another process.")
    return SettingsError("bind", f"cannot listen on {bind}: {error.strerror}.")


def _resolve(bind: Address) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError("bind", f"cannot find {bind.host}: {error.strerror}.") from error
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # of a name, IPv4 first
    return family, address


def _refuse_exposure(settings: Settings, ip: str) -> None:
    """Without credentials every caller has all rights: nobody beyond this machine may be one."""
    if ipaddress.ip_address(ip).is_loopback:
        return
    if settings.authenticates_callers and settings.tls_cert_file is None:
        logger.warning(
            "credentials come in clear text: without TLS, put a proxy that speaks it before %s", settings.bind
        )
    if not settings.authenticates_callers:
        raise SettingsError(
            "bind",
            f"other machines can reach {settings.bind}, and without credentials everybody there would have all "
            "rights. Bind to 127.0.0.1 and put a proxy that authenticates its callers before it.",
        )


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: each connection is one; out of them, granian's accept loop spins."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * _CONNECTIONS  # one over TLS has two
    if hard != resource.RLIM_INFINITY:
        wanted = min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _url(listener: socket.socket, *, https: bool) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if https else 'http'}://{Address(host, port)}"


# --- TLS


def _warn(settings: Settings) -> None:
    """Say what may not be meant as it is configured."""
    if not settings.authenticates_callers:
        logger.warning("no credentials are configured: every caller is system:unsecured with all rights")
    told = settings.registry_webhook_secret_file is not None
    if told and settings.registry_url is None:
        logger.warning("pushes that a registry tells are kept and wait: --registry-url does not say where to read them")
    if settings.registry_url is not None and not told:
        logger.warning("pushes are found by sweeps alone: without --registry-webhook-secret-file no registry can tell")


def _tls(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """What makes the TLS context from the files; None without TLS. Raises SettingsError, as it does itself later."""
    certificate, key = settings.tls_cert_file, settings.tls_private_key_file
    if certificate is None or key is None:
        return None

    def load() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        _load_certificate(context, certificate, key)
        if settings.client_ca_file is not None:
            _load_client_ca(context, settings.client_ca_file)
        return context

    load()
    return load


def _tls_files(settings: Settings) -> list[Path]:
    files = (settings.tls_cert_file, settings.tls_private_key_file, settings.client_ca_file)
    return [file for file in files if file is not None]


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _readable("tls_cert_file", certificate)
    _readable("tls_private_key_file", key)
    try:
        # With an empty password OpenSSL does not ask the terminal for one.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        problem = f"not the PEM certificate of the unencrypted PEM key in {key} ({error.reason or error})."
        raise SettingsError("tls_cert_file", f"{certificate} is {problem}") from error


def _load_client_ca(context: ssl.SSLContext, file: Path) -> None:
    """Have clients asked for certificates: none is fine, one must be signed by a CA in `file`, and be for clients."""
    pem = _readable("client_ca_file", file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        problem = f"{file} holds no PEM certificates ({error.reason or error})."
        raise SettingsError("client_ca_file", problem) from error
    if not context.cert_store_stats()["x509_ca"]:
        raise SettingsError("client_ca_file", f"{file} holds no certificate of an authority.")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate authority need not bring its root
    if b"-----BEGIN X509 CRL-----" in pem:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _readable(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(name, f"cannot read {path}: {error.strerror}.") from error


# --- granian


def _start_worker(app: Flask, source: socket.socket | Front, threads: int) -> tuple[Any, threading.Event]:
    """Start granian's threads: the signal that stops them, and the event set after the last request.

    Requests come from a listener, or over TLS from the front. Request threads are made when needed, so a high limit
    costs nothing at the start.
    """
    engine: Any = granian._granian  # its stubs lag behind
    drained = threading.Event()
    shutdown = engine.WorkerSignal()
    shutdown.add_cb(drained.set)
    front = source if isinstance(source, Front) else None
    listener = source.inner if isinstance(source, Front) else source
    cut = front.cut if front else Connections(listener.getsockname()[1]).cut
    bodies = Bodies(max(threads // 4, 1), cut)
    worker = engine.WSGIWorker(
        1,  # worker id
        (None, engine.SocketHolder(listener.detach(), front is not None, _BACKLOG)),
        None,  # no channel to a parent process
        1,  # runtime threads, for HTTP
        512,  # most threads for the runtime's own blocking calls, of which WSGI makes none
        threads,
        30,  # seconds after which an idle request thread ends
        _CONNECTIONS,
        "1",  # HTTP/1.1: with HTTP/2 nothing here limits how long a client may be silent
        HTTP1Settings(max_buffer_size=_HEADER_BYTES, header_read_timeout=_IDLE_SECONDS * 1000),
        None,  # no HTTP/2
        None,  # no static files
        *(False, None, None, None, "tls1.2", None, [], False),  # no TLS
        (None, None),  # no metrics
    )
    loop = asyncio.new_event_loop()  # asked for by the scheduler; for WSGI it never runs
    new_scheduler: Any = granian._futures._new_cbscheduler
    gateway = Gateway(app, bodies, front)
    serve_requests = worker.serve_mtr_uds if front else worker.serve_mtr
    serve_requests(new_scheduler(loop, gateway, impl_asyncio=True), loop, shutdown)
    bodies.start()
    if front:
        front.start()
    return shutdown, drained


CLIENT_CERTIFICATE = "imagestream.client_certificate"
"""Where the environ of a request holds the verified certificate of the client, as `ssl.SSLSocket.getpeercert()` tells
it; absent if the client has shown none. No header can get there: those begin with HTTP_."""


class Gateway:
    """Answers one request of granian's with the WSGI application `app`.

    granian's own gateway mixes the process environment into every request: a variable HTTP_X would pass for a
    header X, and secrets would stand beside what clients sent. This one adds only what WSGI asks for, and what
    the `front` knows of a client where requests come over TLS.
    """

    def __init__(
        self,
        app: Callable[[dict[str, Any], Any], Iterable[bytes]],
        bodies: Bodies,
        front: Front | None = None,
    ) -> None:
        self._app, self._bodies, self._front = app, bodies, front
        self._base = {
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "granian",
            "wsgi.errors": sys.stderr,
            "wsgi.input_terminated": True,
            "wsgi.multiprocess": False,
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.version": (1, 0),
        }

    def __call__(self, transport: Any, scope: dict[str, Any]) -> None:
        environ = self._base | scope
        if "HTTP_TRANSFER_ENCODING" in scope or scope.get("CONTENT_LENGTH", "0") != "0":
            source, connection = scope["wsgi.input"], scope["REMOTE_ADDR"]
            environ["wsgi.input"] = Body(self._bodies, source, transport.response_bytes, connection)
        if self._front is not None and not self._identify(environ, self._front):
            transport.response_bytes(401, [("connection", "close")], b"")
            return
        start = _Start()
        body = self._app(environ, start)
        if isinstance(body, Later):
            body.then(lambda chunks: transport.response_bytes(start.status, start.headers, b"".join(chunks)))
        elif isinstance(body, list | tuple):
            transport.response_bytes(start.status, start.headers, b"".join(body))
        else:
            transport.response_iter(start.status, start.headers, _Chunks(body))

    @staticmethod
    def _identify(environ: dict[str, Any], front: Front) -> bool:
        """Add what the front knows of the client; False if it does not know it, or no longer vouches for it."""
        peer = front.peer(environ["REMOTE_ADDR"])
        if peer is None or peer.expired:
            return False
        environ["REMOTE_ADDR"] = peer.address
        environ["SERVER_NAME"], environ["SERVER_PORT"] = front.address
        environ["wsgi.url_scheme"] = "https"
        if peer.certificate is not None:
            environ[CLIENT_CERTIFICATE] = peer.certificate
        return True


class _Start:
    """WSGI's `start_response`, which keeps what it was called with."""

    status = 500
    headers: list[tuple[str, str]] = []  # noqa: RUF012 -- never changed, only replaced

    def __call__(self, status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        self.status, self.headers = int(status[:3]), headers


class _Chunks:
    """A body as granian takes it: `__next__` gives a chunk, `close` is called at the end, however it comes."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._next = iter(body).__next__
        self.close = getattr(body, "close", lambda: None)

    def __next__(self) -> bytes:
        return self._next()


# --- logs


class LogfmtFormatter(logging.Formatter):
    """One line a record: `key=value`, quoted as JSON where needed; `extra` fields follow the message."""

    _ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in self._ORDINARY}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={logfmt.value(value)}" for key, value in fields.items())


def log_to_stderr() -> None:
    """Send the service's notes, and the warnings of everything else, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogfmtFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("imagestream_es", "api"):
        logging.getLogger(name).setLevel(logging.INFO)
