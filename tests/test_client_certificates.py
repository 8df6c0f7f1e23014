"""TLS with client certificates: what the application is told of them, and who gets in with one and who does not."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from echo import echo_environment

from imagestream_es.front import Peer

Files = tuple[Path, Path]


@pytest.fixture
def authority(require: Any, tmp_path: Path) -> Authority:
    return Authority(require("openssl"), tmp_path)


@pytest.fixture
def start(start_service: Any, authority: Authority, tmp_path: Path) -> Callable[..., Any]:
    """A service that takes client certificates, and a client's TLS settings that trust it."""
    env = echo_environment(tmp_path)
    certificate, key = authority.issue("/CN=localhost", "serverAuth", names="DNS:localhost,IP:127.0.0.1")

    def start(*options: Any, **more: str) -> Any:
        tls = ("--tls-cert-file", certificate, "--tls-private-key-file", key)
        ca = ("--client-ca-file", authority.certificate)
        return start_service(*map(str, (*tls, *ca, *options)), env=env | more)

    return start


def trusting(authority: Authority, files: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if files is not None:
        context.load_cert_chain(*files)
    return context


def connect(service: Any, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(service.address, context=context, timeout=30)


def ask(
    service: Any, context: ssl.SSLContext, method: str = "GET", path: str = "/who", body: Any = None, **headers: str
) -> bytes:
    connection = connect(service, context)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def secure_socket(service: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, port = service.address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost")


def curl(require: Any, service: Any, authority: Authority, *arguments: Any) -> tuple[int, str]:
    """curl's exit status, and what it was answered."""
    command = [require("curl"), "-sS", "--max-time", "30", "--cacert", authority.certificate, *arguments]
    done = subprocess.run([*command, f"{service.url}/who"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


# --- what the application is told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_application_is_told_the_verified_certificate(start: Any, authority: Authority, version: Any) -> None:
    service = start()
    certificate, key = authority.issue("/O=Gruppe Ü/O=web/CN=zoë")
    client = trusting(authority, (certificate, key))
    client.minimum_version = client.maximum_version = version
    told = json.loads(ask(service, client))
    assert sorted(told["certificate"]["subject"]) == [
        [["commonName", "zoë"]],
        [["organizationName", "Gruppe Ü"]],
        [["organizationName", "web"]],
    ]
    assert told["certificate"]["issuer"] == [[["commonName", "ca"]]]
    assert ssl.cert_time_to_seconds(told["certificate"]["notAfter"]) > time.time()


def test_the_application_is_told_where_the_client_is_and_that_it_came_over_tls(
    start: Any, authority: Authority
) -> None:
    service = start()
    port = service.address.split(":")[1]
    told = json.loads(ask(service, trusting(authority)))
    assert told["certificate"] is None
    assert told["environ"] == {
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": port,
        "wsgi.url_scheme": "https",
    }


def test_every_connection_has_the_certificate_of_its_own_client(start: Any, authority: Authority) -> None:
    service = start()
    names = [f"user-{number}" for number in range(6)]
    clients: dict[str | None, ssl.SSLContext] = {
        name: trusting(authority, authority.issue(f"/CN={name}")) for name in names
    }
    clients[None] = trusting(authority)
    with ExitStack() as stack:
        connections = []
        for name, context in [*clients.items()] * 5:
            connection = connect(service, context)
            stack.callback(connection.close)
            connections.append((name, connection))

        def told(one: tuple[str | None, http.client.HTTPSConnection]) -> None:
            name, connection = one
            for _ in range(20):  # all of them on one connection
                connection.request("GET", "/who")
                certificate = json.loads(connection.getresponse().read())["certificate"]
                assert (certificate["subject"][0][0][1] if certificate else None) == name

        with ThreadPoolExecutor(len(connections)) as pool:
            list(pool.map(told, connections))


def test_no_header_passes_for_a_certificate(start: Any, authority: Authority) -> None:
    service = start()
    forged = {
        "imagestream.client_certificate": "{}",
        "imagestream.client-certificate": "{}",
        "X-Client-Cert": "x",
        "X-Forwarded-For": "192.0.2.1",
        "Remote-Addr": "192.0.2.1",
    }
    told = json.loads(ask(service, trusting(authority), **forged))
    assert told["certificate"] is None
    assert told["environ"]["REMOTE_ADDR"] == "127.0.0.1"
    assert told["headers"]["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"


# --- who gets in


def test_curl_gets_in_with_a_certificate_and_without(start: Any, require: Any, authority: Authority) -> None:
    service = start()
    certificate, key = authority.issue("/CN=ann", "clientAuth,serverAuth")
    status, answer = curl(require, service, authority, "--cert", certificate, "--key", key)
    assert status == 0
    assert json.loads(answer)["certificate"]["subject"] == [[["commonName", "ann"]]]
    status, answer = curl(require, service, authority)
    assert status == 0
    assert json.loads(answer)["certificate"] is None


def test_kubectl_gets_in_with_the_certificate_in_its_configuration(
    start: Any, require: Any, authority: Authority, tmp_path: Path
) -> None:
    service = start()
    certificate, key = authority.issue("/O=web/CN=ann")

    def data(file: Path) -> str:
        return b64encode(file.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "here",
                "cluster": {"server": service.url, "certificate-authority-data": data(authority.certificate)},
            }
        ],
        "users": [
            {"name": "ann", "user": {"client-certificate-data": data(certificate), "client-key-data": data(key)}}
        ],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "ann"}}],
        "current-context": "here",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    command = [require("kubectl"), "--kubeconfig", tmp_path / "config", "get", "--raw", "/who"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sorted(json.loads(done.stdout)["certificate"]["subject"]) == [
        [["commonName", "ann"]],
        [["organizationName", "web"]],
    ]


@pytest.mark.parametrize("version", ["--tlsv1.3", "--tls-max=1.2"])
@pytest.mark.parametrize("fault", ["expired", "for servers", "of another authority", "self-signed", "of a mere user"])
def test_a_wrong_certificate_is_refused_and_never_passed_over(
    start: Any, require: Any, authority: Authority, tmp_path: Path, fault: str, version: str
) -> None:
    service = start()
    chain = b""
    match fault:
        case "expired":
            certificate, key = authority.issue("/CN=ann", expired=True)
        case "for servers":
            certificate, key = authority.issue("/CN=ann", "serverAuth")
        case "of another authority":  # of the same name
            (tmp_path / "other").mkdir()
            certificate, key = Authority(require("openssl"), tmp_path / "other").issue("/CN=ann")
        case "self-signed":
            other = Authority(require("openssl"), tmp_path, "ann")
            certificate, key = other.certificate, other.certificate.with_suffix(".key")
        case "of a mere user":
            user = Authority(require("openssl"), tmp_path, "user")
            signed, _ = authority.issue("/CN=user", key=user.certificate.with_suffix(".key"))
            certificate, key = user.issue("/CN=ann")
            chain = signed.read_bytes()
    with certificate.open("ab") as file:
        file.write(chain)
    arguments = ("--cert", certificate, "--key", key, *version.split("="))
    status, answer = curl(require, service, authority, *arguments)
    assert status != 0
    assert answer == ""
    assert curl(require, service, authority)[0] == 0


def test_a_revoked_certificate_is_refused_when_the_file_says_so(start: Any, require: Any, authority: Authority) -> None:
    good, revoked = authority.issue("/CN=ann"), authority.issue("/CN=eve")
    authority.revoke(revoked[0])
    service = start()
    assert curl(require, service, authority, "--cert", good[0], "--key", good[1])[0] == 0
    assert curl(require, service, authority, "--cert", revoked[0], "--key", revoked[1])[0] != 0


def whole_answer(secure: ssl.SSLSocket) -> bytes:
    secure.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = b""
    while piece := secure.recv(65536):
        received += piece
    return received


def resumed(service: Any, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    host, port = service.address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_has_its_certificate_and_none_outlives_a_change_of_the_files(
    start: Any, authority: Authority, version: Any
) -> None:
    service = start(RELOAD="0")
    certificate, key = authority.issue("/CN=ann")
    client = trusting(authority, (certificate, key))
    client.minimum_version = client.maximum_version = version
    with secure_socket(service, client) as first:
        assert b'"ann"' in whole_answer(first)
        session = first.session
    with resumed(service, client, session) as second:
        assert second.session_reused
        assert b'"ann"' in whole_answer(second)
    authority.revoke(certificate)
    with pytest.raises((ssl.SSLError, ConnectionError)), resumed(service, client, session) as third:  # noqa: PT012
        assert whole_answer(third)
        raise AssertionError("let in")


def test_a_certificate_that_expires_while_its_connection_lives_counts_no_longer() -> None:
    certificate = {"subject": (), "notAfter": "Nov  6 08:49:37 1994 GMT"}
    assert Peer("192.0.2.1", certificate).expired
    assert not Peer("192.0.2.1", certificate | {"notAfter": "Dec 31 23:59:59 9999 GMT"}).expired
    assert not Peer("192.0.2.1", None).expired


# --- the service is as it is without TLS


def test_big_bodies_pass_both_ways(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    body = os.urandom(5_000_000)
    assert ask(service, client, "POST", "/echo", body) == body
    assert ask(service, client, "POST", "/echo", iter([body, body])) == body + body
    assert ask(service, client, path="/bytes/20000000") == b"x" * 20_000_000


def test_head_pipelining_and_expect_work(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    connection = connect(service, client)
    connection.request("HEAD", "/bytes/10")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "10", b"")
    with secure_socket(service, client) as secure:
        secure.sendall(b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        received = b""
        while received.count(b"\r\n\r\nxxx") < 50:
            received += secure.recv(65536)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        secure.sendall(head)
        assert secure.recv(65536).startswith(b"HTTP/1.1 100 ")
        secure.sendall(b"body")
        received = b""
        while not received.endswith(b"\r\n\r\nbody"):
            received += secure.recv(65536)


def test_an_answer_is_complete_when_the_connection_ends_with_it(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    with secure_socket(service, client) as secure:
        secure.sendall(b"GET /bytes/3000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := secure.recv(65536):
            received += piece
        assert received.endswith(b"\r\n\r\n" + b"x" * 3_000_000)


def test_a_watch_gets_each_line_at_once_and_ends_with_the_service(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    connections = []
    for _ in range(20):
        connection = connect(service, client)
        connection.request("GET", "/watch")
        connections.append(connection.getresponse())
    assert [answer.readline() for answer in connections] == [b"hello\n"] * 20
    for _ in range(3):
        ask(service, client, "POST", "/tell")
        assert [answer.readline() for answer in connections] == [b"told\n"] * 20
    service.process.send_signal(signal.SIGTERM)
    for answer in connections:
        assert set(answer.read().split()) <= {b"told"}  # complete: the last chunk came
    assert service.process.wait(60) == 0
    assert "cut off" not in service.log


def test_a_client_that_goes_away_frees_its_thread(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    before = int(ask(service, client, path="/threads"))
    for _ in range(30):
        with secure_socket(service, client) as secure:
            secure.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert secure.recv(65536)
    descriptors = Path(f"/proc/{service.pid}/fd")
    while len([1 for one in descriptors.iterdir() if "socket" in _target(one)]) > 12:
        time.sleep(0.05)  # a test that waits in vain ends at its timeout
    assert int(ask(service, client, path="/threads")) >= before


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_the_inner_socket_is_open_to_nobody_else_and_a_stranger_there_is_refused(
    start: Any, authority: Authority, monkeypatch: Any
) -> None:
    service = start()
    directory = service.data_dir / "connections"
    monkeypatch.chdir(directory)  # the names of sockets are short
    assert directory.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind("stranger")
        stranger.connect("granian")
        stranger.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stranger.recv(65536).startswith(b"HTTP/1.1 401 ")
    (directory / "stranger").unlink()
    ask(service, trusting(authority))
    assert [one.name for one in directory.iterdir()] == ["granian"]
    assert service.stop() == (0, "")
    assert not directory.exists()


def test_after_kill_9_the_same_directory_serves_again(start: Any, authority: Authority) -> None:
    service, client = start(), trusting(authority)
    for _ in range(2):
        ask(service, client)
        service.kill()
        service.restart()
    ask(service, client)


# --- the files


def test_files_that_change_are_read_again_without_a_restart(start: Any, require: Any, authority: Authority) -> None:
    eve = authority.issue("/CN=eve")
    service = start(RELOAD="0")
    before = authority.certificate.read_bytes()
    assert curl(require, service, authority, "--cert", eve[0], "--key", eve[1])[0] == 0
    authority.certificate.write_bytes(b"nothing")
    assert ask(service, ssl._create_unverified_context())
    assert "those before stay in use" in service.log
    authority.certificate.write_bytes(before)
    authority.revoke(eve[0])
    assert curl(require, service, authority, "--cert", eve[0], "--key", eve[1])[0] != 0
    assert curl(require, service, authority)[0] == 0


def test_a_file_of_authorities_that_cannot_work_is_told(
    start: Any, require: Any, authority: Authority, tmp_path: Path
) -> None:
    def refused(file: Path) -> str:
        with pytest.raises(RuntimeError) as refusal:
            start("--client-ca-file", file)
        lines = re.findall(r"Error: .*", str(refusal.value))
        assert "--client-ca-file (IMAGESTREAM_CLIENT_CA_FILE): " in lines[-1]
        return str(lines[-1])

    assert "cannot read" in refused(tmp_path / "missing")
    (tmp_path / "empty").touch()
    assert "holds no PEM certificates" in refused(tmp_path / "empty")
    assert "holds no certificate of an authority" in refused(authority.issue("/CN=ann")[0])


def test_a_file_of_authorities_needs_tls(start_service: Any, authority: Authority) -> None:
    with pytest.raises(RuntimeError, match=r"--client-ca-file .*needs TLS"):
        start_service("--client-ca-file", str(authority.certificate))
