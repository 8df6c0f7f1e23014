"""What all tests share: a real running service, a real PostgreSQL, and a word on parts that are missing.

A test that needs a real part of the machine asks for it by name (`require`) and is skipped without it. With
IMAGESTREAM_TEST_REQUIRE_ALL=1, as in continuous integration, every skip is a failure instead.
"""

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings

from api import create_app
from imagestream_es.settings import Settings

REQUIRE_ALL = os.environ.get("IMAGESTREAM_TEST_REQUIRE_ALL") == "1"
COMMAND = Path(sys.executable).with_name("imagestream-es")
POSTGRES_BINARIES = "/usr/lib/postgresql/15/bin"

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (IMAGESTREAM_TEST_REQUIRE_ALL=1 makes every skip a failure)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def _require(program: str, path: str | None = None) -> str:
    found = shutil.which(program, path=path) or shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}, which is not installed")
    return found


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """`require("skopeo")` gives the path of a program, or skips the test and names the program."""
    return _require


class Service:
    """A running `imagestream-es serve`, on a free port; it imports and logs nothing unless `options` say so."""

    def __init__(self, directory: Path, options: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.data_dir = directory / "data"
        self._log = directory / "stderr.txt"
        quiet = [name for name in ("--import-controller", "--access-log") if name not in options]
        self._options = (*options, *(word for name in quiet for word in (name, "off")))
        self._env = env
        self._start(*([] if "--bind" in options else ["--bind", "127.0.0.1:0"]))

    def _start(self, *more: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("IMAGESTREAM_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--data-dir", self.data_dir, *self._options, *more],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=inherited | self._env,
                text=True,
                start_new_session=True,  # its session id tells its processes from all others
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Serving on "):
            self.kill()
            raise RuntimeError(f"the service did not start: {line}{self.log}")
        self.url = line.removeprefix("Serving on ").rstrip("\n")
        self.address = urlsplit(self.url).netloc

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written to stderr, restarts included."""
        return self._log.read_text()

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request over plain HTTP on a connection of its own: the status and the body of the answer."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait for the end: the exit status and what was left to read on stdout."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest

    def kill(self) -> None:
        """SIGKILL, as in a power cut; also when it has ended already."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def restart(self) -> None:
        """Start again after `stop` or `kill`, on the same port and data directory."""
        self._start("--bind", self.address)


@pytest.fixture
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """`start_service(*options, env={})` starts a service with a data directory of its own."""
    started: list[Service] = []

    def start(*options: str, env: Mapping[str, str] | None = None) -> Service:
        service = Service(tmp_path_factory.mktemp("service"), options, env or {})
        started.append(service)
        return service

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    """A running service with an empty log on a free port."""
    return start_service()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """The URL of a private PostgreSQL server's own database; it syncs to disk like a real one."""
    initdb, server = _require("initdb", POSTGRES_BINARIES), _require("postgres", POSTGRES_BINARIES)
    setpriv = [_require("setpriv"), "--pdeathsig", "INT"]  # it ends with the tests, however these end
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        setpriv += ["--reuid", "postgres", "--regid", "postgres", "--init-groups"]
    directory = Path(tempfile.mkdtemp(prefix="imagestream-pg-"))  # short, for the socket; open to its user
    password, port = secrets.token_hex(16), _free_port()
    (directory / "password").write_text(password)
    if os.getuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
        shutil.chown(directory / "password", "postgres", "postgres")
    data, options = directory / "data", ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*setpriv, initdb, "-D", data, *options, "--locale=C.UTF-8", f"--pwfile={directory / 'password'}"],
        check=True,
        capture_output=True,
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*setpriv, server, "-D", data, "-k", directory, "-p", str(port), "-c", "listen_addresses=127.0.0.1"],
            stdout=log,
            stderr=log,
        )
    url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    try:
        _wait_for_postgres(url, process, directory / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(directory)


def _wait_for_postgres(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while process.poll() is None:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")


@pytest.fixture
def postgres_url(postgres_cluster: str) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, dropped after the test."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(postgres_cluster, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_cluster.removesuffix("/postgres") + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of the application in this process, over an empty log."""
    app = create_app(Settings(data_dir=tmp_path / "data", import_controller="off", access_log="off"))
    yield app.test_client()
    app.extensions["imagestream"].close()


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Path]:
    """A directory on a disk of three megabytes."""
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = [require("mount"), "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)]
    found = subprocess.run(mount, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"needs to mount a small disk: {found.stderr}")
    yield directory
    subprocess.run([require("umount"), "--lazy", str(directory)], check=True)
