"""The process: how it starts, says that it is ready, refuses to start, serves and ends.

The service runs as a process of its own, with a small stand-in for the application that the tests can steer.
"""

import http.client
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from imagestream_es.server import LogfmtFormatter

STAND_IN = """
    import json, os, socket, threading, time
    from pathlib import Path
    from flask import Flask, Response, request
    from imagestream_es import server
    from imagestream_es.later import Later
    from imagestream_es.persistence.directory import DirectoryLock

    server.DRAIN_SECONDS = 0.3 if "CUT_OFF" in os.environ else 60
    if "BROKEN" in os.environ:
        raise OSError("the disk\\nis on fire")

    class Service:
        def __init__(self, settings):
            self.directory, self.draining = settings.data_dir, threading.Event()
            self.lock = DirectoryLock(settings.data_dir)
            self.lock.__enter__()
            if settings.bind.port:
                with socket.socket() as probe:
                    refused = probe.connect_ex((settings.bind.host, settings.bind.port))
                    self.note("unreachable" if refused else "reachable")
            self.note("built")

        def note(self, word):
            with open(self.directory / "notes", "a") as notes:
                notes.write(word + " ")

        def close(self):
            self.note("closed")

        def drain(self):
            if "CUT_OFF" not in os.environ:
                self.draining.set()

    def create_app(settings):
        app = Flask("stand-in")
        service = app.extensions["imagestream"] = Service(settings)

        @app.get("/")
        def here():
            return {"pid": os.getpid()}

        @app.post("/echo")
        def echo():
            return request.get_data()

        @app.get("/environ")
        def environ():
            return {key: str(value) for key, value in request.environ.items()}

        @app.get("/slow")
        def slow():
            service.note("begun")
            while not (service.directory / "go").exists():
                time.sleep(0.01)
            service.note("finished")
            return "done"

        @app.get("/endless")
        def endless():
            def lines():
                try:
                    while not service.draining.wait(0.01):
                        yield b"line\\n"
                finally:
                    service.note("ended")
            return Response(lines())

        class Begun:
            def then(self, heard):
                def run():
                    service.note("begun")
                    while not (service.directory / "go").exists():
                        time.sleep(0.01)
                    service.note("finished")
                    heard()
                threading.Thread(target=run).start()

        flask = app.wsgi_app

        def with_later(environ, start_response):
            if not environ["PATH_INFO"].startswith("/later"):
                return flask(environ, start_response)

            def make():
                start_response("202 Accepted", [("X-By", threading.current_thread().name)])
                return [b"do", b"ne"] if environ["PATH_INFO"] == "/later" else 1 / 0

            return Later(Begun(), make)

        app.wsgi_app = with_later
        return app
"""


@pytest.fixture
def stand_in(tmp_path):
    """The environment in which `imagestream-es serve` finds the stand-in for the application."""
    package = tmp_path / "stand-in" / "api"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(STAND_IN))
    return {"PYTHONPATH": str(package.parent)}


@pytest.fixture
def start(start_service, stand_in):
    def start(*options, **env):
        return start_service(*options, env=stand_in | env)

    return start


@pytest.fixture
def refusal(stand_in, tmp_path):
    """Run a service that must not start: its exit status and stderr, which must be one line."""

    def refusal(*options, **env):
        command = Path(sys.executable).with_name("imagestream-es")
        data = [] if "--data-dir" in options else ["--data-dir", tmp_path / "data"]
        ended = subprocess.run(
            [command, "serve", *data, *options], env=stand_in | env, capture_output=True, text=True, check=False
        )
        assert ended.stdout == ""
        assert ended.stderr.startswith("Error: ")
        assert ended.stderr.count("\n") == 1
        return ended.returncode, ended.stderr

    return refusal


def notes(service):
    return (service.data_dir / "notes").read_text().split()


def wait_for(condition):
    while not condition():  # a test that waits in vain ends at its timeout
        time.sleep(0.01)


def processes_of_session(session):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_one_line_tells_the_url_once_the_application_is_built(start):
    service = start()
    assert notes(service) == ["built"]
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]*", service.url)
    assert service.request("/")[0] == 200
    assert service.stop() == (0, "")


def test_nobody_can_connect_before_the_application_is_built(start):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service = start("--bind", f"127.0.0.1:{port}")
    assert service.url == f"http://127.0.0.1:{port}"
    assert notes(service) == ["unreachable", "built"]


def test_the_process_that_was_started_is_the_one_that_serves_and_has_no_children(start):
    service = start()
    assert json.loads(service.request("/")[1]) == {"pid": service.pid}
    assert processes_of_session(service.pid) == [service.pid]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_service_and_ends_with_status_0(start, number):
    service = start()
    assert service.stop(number) == (0, "")
    assert notes(service) == ["built", "closed"]


@pytest.mark.parametrize(("path", "code"), [("/slow", 200), ("/later", 202)])
def test_a_running_request_is_answered_after_the_signal_while_new_ones_are_not_accepted(start, path, code):
    service = start()
    answers = []
    request = threading.Thread(target=lambda: answers.append(service.request(path)))
    request.start()
    wait_for(lambda: "begun" in notes(service))
    service.process.send_signal(signal.SIGTERM)
    host, port = service.address.split(":")

    def refused():
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    wait_for(refused)
    (service.data_dir / "go").touch()
    request.join()
    assert answers == [(code, b"done")]
    assert service.process.wait() == 0
    assert notes(service) == ["built", "begun", "finished", "closed"]


def test_answers_that_come_later_hold_no_threads(start):
    service = start("--request-threads", "4")
    answers = []
    requests = [threading.Thread(target=lambda: answers.append(service.request("/later"))) for _ in range(20)]
    for request in requests:
        request.start()
    wait_for(lambda: notes(service).count("begun") == 20)
    assert service.request("/")[0] == 200
    assert answers == []
    (service.data_dir / "go").touch()
    for request in requests:
        request.join()
    assert answers == [(202, b"done")] * 20


def test_an_answer_that_cannot_be_made_later_is_an_error(start):
    service = start()
    (service.data_dir / "go").touch()
    assert service.request("/later/broken")[0] == 500
    assert service.request("/later") == (202, b"done")


def test_an_endless_answer_ends_when_the_service_is_asked_to_drain(start):
    service = start()
    connection = http.client.HTTPConnection(service.address)
    connection.request("GET", "/endless")
    answer = connection.getresponse()
    assert answer.readline() == b"line\n"
    service.process.send_signal(signal.SIGTERM)
    assert set(answer.read().split()) <= {b"line"}  # complete: the last chunk came
    assert service.process.wait() == 0
    assert notes(service) == ["built", "ended", "closed"]


def test_what_does_not_end_in_time_is_cut_off_and_the_status_is_still_0(start):
    service = start(CUT_OFF="1")
    connection = http.client.HTTPConnection(service.address)
    connection.request("GET", "/endless")
    connection.getresponse().readline()
    assert service.stop() == (0, "")
    assert notes(service) == ["built", "closed"]
    assert "requests were cut off" in service.log


def test_a_client_that_goes_away_ends_its_endless_answer(start):
    service = start()
    connection = http.client.HTTPConnection(service.address)
    connection.request("GET", "/endless")
    answer = connection.getresponse()
    answer.readline()
    answer.close()
    connection.close()
    wait_for(lambda: "ended" in notes(service))


def test_after_kill_9_nothing_is_left_and_the_same_port_and_directory_serve_again_at_once(start):
    service = start()
    connection = http.client.HTTPConnection(service.address)
    connection.request("GET", "/endless")
    connection.getresponse().readline()
    for _ in range(3):
        killed = service.pid
        service.kill()
        assert processes_of_session(killed) == []
        before = service.url
        service.restart()
        assert service.url == before
        assert service.request("/")[0] == 200


def test_a_port_in_use_is_told_in_one_line(start, refusal):
    service = start()
    status, line = refusal("--bind", service.address)
    assert status == 1
    assert "--bind (IMAGESTREAM_BIND)" in line
    assert f"{service.address} is in use" in line


def test_a_data_directory_in_use_is_told_in_one_line(start, refusal):
    service = start()
    status, line = refusal("--bind", "127.0.0.1:0", "--data-dir", service.data_dir)
    assert status == 1
    assert str(service.data_dir) in line
    assert f"pid {service.pid}" in line


def test_a_data_directory_that_cannot_be_made_is_told_in_one_line(refusal, tmp_path):
    (tmp_path / "file").touch()
    status, line = refusal("--bind", "127.0.0.1:0", "--data-dir", tmp_path / "file" / "data")
    assert status == 1
    assert "--data-dir (IMAGESTREAM_DATA_DIR)" in line


def test_a_machine_that_refuses_something_is_told_in_one_line(refusal):
    assert refusal("--bind", "127.0.0.1:0", BROKEN="1") == (1, "Error: the disk is on fire\n")


def test_a_host_that_does_not_exist_is_told_in_one_line(refusal):
    status, line = refusal("--bind", "nowhere.invalid:8080")
    assert status == 1
    assert "--bind (IMAGESTREAM_BIND): cannot find nowhere.invalid" in line


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_without_credentials_only_the_loopback_is_served(refusal, address):
    status, line = refusal("--bind", address)
    assert status == 1
    assert "--bind (IMAGESTREAM_BIND)" in line
    assert "without credentials" in line
    assert "127.0.0.1" in line  # what to do


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.8.8:0", "localhost:0"])
def test_on_the_loopback_a_warning_says_that_every_caller_has_all_rights(start, address):
    service = start("--bind", address)
    assert "level=warning" in service.log
    assert "every caller is system:unsecured with all rights" in service.log


def test_beyond_the_loopback_a_warning_says_that_credentials_come_in_clear_text(start, tmp_path):
    (tmp_path / "tokens").write_text("secret-token,jane,1\n")
    tokens = ("--token-auth-file", str(tmp_path / "tokens"))
    warning = "credentials come in clear text: without TLS, put a proxy that speaks it before"
    assert f'level=warning logger=imagestream_es.server message="{warning}' in start("--bind", "0.0.0.0:0", *tokens).log
    assert warning not in start("--bind", "127.0.0.1:0", *tokens).log


def test_beyond_the_loopback_nothing_is_said_with_tls(start, certificate, tmp_path):
    (tmp_path / "tokens").write_text("secret-token,jane,1\n")
    files = certificate(*P256)
    tls = ("--tls-cert-file", str(files[0]), "--tls-private-key-file", str(files[1]))
    service = start("--bind", "0.0.0.0:0", "--token-auth-file", str(tmp_path / "tokens"), *tls)
    assert "clear text" not in service.log


@pytest.mark.parametrize("options", [("--rbac", "rules"), ("--anonymous-auth", "on")])
def test_rules_without_credentials_are_refused_since_they_would_protect_nothing(refusal, options):
    status, line = refusal("--bind", "127.0.0.1:0", *options)
    assert status == 1
    assert options[0] in line
    assert "of no use without credentials: --token-auth-file, --oidc-issuer-url or --client-ca-file" in line


def test_ipv6_addresses_are_served(start):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6, which this machine does not have")
    service = start("--bind", "[::1]:0")
    assert re.fullmatch(r"http://\[::1\]:[1-9][0-9]*", service.url)
    assert service.request("/")[0] == 200


def test_requests_are_not_logged(start):
    service = start()
    before = service.log
    for path in ("/", "/nowhere", "/environ"):
        service.request(path)
    service.stop()
    assert service.log == before
    assert before.count("\n") == 1


def test_the_environment_of_the_process_does_not_reach_requests(start):
    service = start(HTTP_X_REMOTE_USER="admin", IMAGESTREAM_UNKNOWN="secret")
    environ = json.loads(service.request("/environ", headers={"X-Sent": "yes"})[1])
    assert environ["HTTP_X_SENT"] == "yes"
    assert "HTTP_X_REMOTE_USER" not in environ
    assert "IMAGESTREAM_UNKNOWN" not in environ


def test_a_body_is_read_whole_with_and_without_a_length(start):
    service = start()
    body = bytes(range(256)) * 20_000
    assert service.request("/echo", "POST", body) == (200, body)
    assert service.request("/echo", "POST", iter([body, body])) == (200, body + body)


def test_an_answer_to_head_has_headers_and_no_body(start):
    connection = http.client.HTTPConnection(start().address)
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 0
    answer.read()
    connection.request("GET", "/")  # the connection still stands, and nothing follows the headers
    assert connection.getresponse().status == 200


def test_headers_much_beyond_64_kib_are_refused(start):
    service = start()
    assert service.request("/", headers={"X-Much": "a" * 50_000})[0] == 200
    assert service.request("/", headers={"X-Much": "a" * 200_000})[0] == 431
    assert service.request("/")[0] == 200


# --- TLS


@pytest.fixture
def certificate(require, tmp_path):
    """Make a self-signed certificate for localhost; `key` and `extra` are for openssl."""
    openssl = require("openssl")

    def certificate(*key, name="server"):
        files = tmp_path / f"{name}.crt", tmp_path / f"{name}.key"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", *key, "-days", "3", *subject, "-out", files[0], "-keyout", files[1]],
            check=True,
            capture_output=True,
        )
        return files

    return certificate


P256 = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
P521 = ("ec", "-pkeyopt", "ec_paramgen_curve:secp521r1", "-nodes")


def tls_options(certificate, key):
    return "--tls-cert-file", str(certificate), "--tls-private-key-file", str(key)


@pytest.mark.parametrize("key", [P256, P521, ("rsa:2048", "-nodes"), ("ed25519", "-nodes")])
def test_https_is_served_with_a_certificate(start, certificate, key):
    files = certificate(*key)
    service = start(*tls_options(*files))
    assert service.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=files[0])
    connection = http.client.HTTPSConnection(service.address, context=trust)
    connection.request("GET", "/environ")
    assert json.loads(connection.getresponse().read())["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_http_1_1_is_what_tls_of_both_versions_agrees_on(start, certificate, version):
    files = certificate(*P256)
    service = start(*tls_options(*files))
    client = ssl.create_default_context(cafile=files[0])
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])
    host, port = service.address.split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == "http/1.1"
        assert secure.version() == version.name.replace("_", ".")


def test_a_missing_tls_file_is_told_in_one_line(refusal, certificate, tmp_path):
    cert, key = certificate(*P256)
    status, line = refusal("--bind", "127.0.0.1:0", *tls_options(cert, tmp_path / "missing"))
    assert status == 1
    assert "--tls-private-key-file (IMAGESTREAM_TLS_PRIVATE_KEY_FILE): cannot read" in line
    status, line = refusal("--bind", "127.0.0.1:0", *tls_options(tmp_path / "missing", key))
    assert status == 1
    assert "--tls-cert-file (IMAGESTREAM_TLS_CERT_FILE): cannot read" in line


@pytest.mark.parametrize("fault", ["another key", "an encrypted key", "a cut certificate"])
def test_tls_files_that_cannot_work_are_told_in_one_line(refusal, certificate, fault):
    cert, key = certificate(*P256)
    match fault:
        case "another key":
            _, key = certificate(*P256, name="other")
        case "an encrypted key":
            cert, key = certificate("rsa:2048", "-passout", "pass:word")
        case "a cut certificate":
            cert.write_text(cert.read_text()[:200])
    status, line = refusal("--bind", "127.0.0.1:0", *tls_options(cert, key))
    assert status == 1
    assert "--tls-cert-file (IMAGESTREAM_TLS_CERT_FILE)" in line
    assert str(cert) in line


# --- logs


def formatted(message, *arguments, **more):
    record = logging.LogRecord(
        "some.logger", logging.WARNING, "file.py", 1, message, arguments, more.pop("exc_info", None)
    )
    vars(record).update(more)
    return LogfmtFormatter().format(record)


def test_a_record_is_one_line_of_keys_and_values():
    line = formatted("event %d stored", 7, namespace="team-a", note="")
    assert re.fullmatch(
        r"time=\S+\+00:00 level=warning logger=some\.logger message=\"event 7 stored\" namespace=team-a note=\"\"", line
    )


def test_what_a_client_sent_cannot_forge_a_line_or_steer_a_terminal():
    line = formatted("name %s", 'x\nlevel=error message="forged"\x1b[2J\u2028')
    assert "\n" not in line
    assert "\x1b" not in line
    assert "\u2028" not in line
    assert line.endswith(r'message="name x\nlevel=error message=\"forged\"\u001b[2J\u2028"')


def test_a_traceback_stays_on_its_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info())
    assert "\n" not in line
    assert r"ValueError: two\nlines" in line
