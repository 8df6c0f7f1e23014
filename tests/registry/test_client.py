"""The registry client against registries that are honest, broken, and hostile."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fake_registry import SCHEMA2, FakeRegistry, Handler, Page, fake_registry, moved, problem, sha256

from imagestream_es.registry import client as client_module
from imagestream_es.registry.addresses import Addresses
from imagestream_es.registry.budget import Budget
from imagestream_es.registry.challenge import Challenge, parse_challenge
from imagestream_es.registry.client import MAX_DOCUMENT, MAX_TAGS, MAX_VALUES, RegistryClient
from imagestream_es.registry.credentials import Credentials
from imagestream_es.registry.errors import (
    BadAnswer,
    Blocked,
    Denied,
    Exhausted,
    HttpOnly,
    NotARegistry,
    Overloaded,
    RegistryError,
    Unknown,
    Unreachable,
)
from imagestream_es.registry.transport import MAX_REDIRECTS, Answer, Transport, Url

PLENTY = 2**30
DEV = Credentials("dev", "hunter2")
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": SCHEMA2}).encode()
FORBIDDEN = "127.0.0.2"
"""An address of this machine that nobody allows."""


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


@pytest.fixture
def forbidden() -> Iterator[FakeRegistry]:
    """A registry that must never be connected to."""
    with fake_registry(FORBIDDEN) as one:
        yield one
        assert one.connections == 0


@pytest.fixture
def more() -> Iterator[Callable[..., FakeRegistry]]:
    """Further registries."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(fake_registry(**options))


@pytest.fixture(scope="session")
def tls(require, tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server for localhost needs, and what a client needs that trusts it."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "server.crt", directory / "server.key"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [require("openssl"), "req", "-x509", *kind, "-days", "3", *names, "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


def transport(trust: ssl.SSLContext | None = None) -> Transport:
    return Transport(Addresses(["127.0.0.1", "localhost"]), trust)


def asking(registry: FakeRegistry | str, credentials: Credentials | None = None, **options) -> RegistryClient:
    """A client that may speak plain HTTP, and that does not wait between tries."""
    host = registry if isinstance(registry, str) else registry.host
    budget = options.pop("budget", None) or Budget(30, PLENTY)
    trust = options.pop("trust", None)
    settings = {"insecure": True, "pause": lambda _: None, **options}
    return RegistryClient(transport(trust), host, budget, credentials, **settings)


# --- what is asked for


def test_a_tag_answers_the_manifest_as_it_is(registry):
    digest = registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    found = asking(registry).manifest("team/app", "v1")
    assert (found.content, found.media_type, found.digest) == (MANIFEST, SCHEMA2, digest)


def test_every_kind_of_manifest_is_accepted(registry):
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    asking(registry).manifest("team/app", "v1")
    assert sorted(registry.requests[-1].headers["Accept"].split(", ")) == [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]


def test_a_media_type_is_told_without_parameters(registry):
    registry.put_manifest("team/app", MANIFEST, f"{SCHEMA2}; charset=utf-8", "v1")
    assert asking(registry).manifest("team/app", "v1").media_type == SCHEMA2


@pytest.mark.parametrize("reference", ["v1", sha256(MANIFEST)])
def test_what_the_registry_does_not_have_is_unknown(registry, reference):
    with pytest.raises(Unknown):
        asking(registry).manifest("team/app", reference)


def test_a_config_comes_by_its_digest(registry):
    digest = registry.put_blob("team/app", b'{"os":"linux"}')
    assert asking(registry).document("team/app", digest) == b'{"os":"linux"}'


@pytest.mark.parametrize("digest", ["", "latest", "../../secret", "sha256:abc", "md5:" + "a" * 32])
def test_a_config_that_is_named_by_no_digest_is_not_asked_for(registry, digest):
    with pytest.raises(BadAnswer, match="no digest"):
        asking(registry).document("team/app", digest)
    assert registry.requests == []


def test_all_pages_of_tags_are_read(registry):
    first, second = "/v2/team/app/tags/list", "/v2/team/app/tags/list?last=b&n=2"
    registry.pages[first] = Page(body=b'{"tags":["a","b"]}', headers={"Link": f'<{second}>; rel="next"'})
    registry.pages[second] = Page(body=b'{"tags":["c","a"]}')
    assert asking(registry).tags("team/app") == ["a", "b", "c"]


def test_a_page_of_tags_may_name_the_next_with_its_host(registry):
    second = "/v2/team/app/tags/list?last=a"
    link = {"Link": f"<{registry.url}{second}>; rel=next"}
    registry.pages["/v2/team/app/tags/list"] = Page(body=b'{"tags":["a"]}', headers=link)
    registry.pages[second] = Page(body=b'{"tags":["b"]}')
    assert asking(registry).tags("team/app") == ["a", "b"]


@pytest.mark.parametrize("body", [b'{"tags":null}', b'{"tags":[]}', b"{}"])
def test_a_repository_may_have_no_tags(registry, body):
    registry.pages["/v2/team/app/tags/list"] = Page(body=body)
    assert asking(registry).tags("team/app") == []


def test_only_what_can_be_a_tag_is_one_and_an_empty_one_is_latest(registry):
    listed = ["v1", "", "a/b", "../x", "a:b", "-a", "a\nb", "ä", "x" * 129, 7, None, ["v2"], "latest"]
    registry.pages["/v2/team/app/tags/list"] = Page(body=json.dumps({"tags": listed}).encode())
    assert asking(registry).tags("team/app") == ["v1", "latest"]


# --- content is what its digest says


def test_other_bytes_under_a_digest_are_refused(registry):
    digest = sha256(b"what was meant")
    registry.pages[f"/v2/team/app/manifests/{digest}"] = Page(body=MANIFEST)
    registry.pages[f"/v2/team/app/blobs/{digest}"] = Page(body=b"{}")
    with pytest.raises(BadAnswer, match="content integrity error"):
        asking(registry).manifest("team/app", digest)
    with pytest.raises(BadAnswer, match="content integrity error"):
        asking(registry).document("team/app", digest)


@pytest.mark.parametrize("announced", [sha256(b"other"), "sha256:short", "md5:" + "a" * 32, "nonsense"])
def test_a_tag_whose_manifest_is_not_what_was_announced_is_refused(registry, announced):
    registry.pages["/v2/team/app/manifests/v1"] = Page(body=MANIFEST, headers={"Docker-Content-Digest": announced})
    with pytest.raises(BadAnswer, match="content integrity error"):
        asking(registry).manifest("team/app", "v1")


def test_every_known_digest_is_checked_with_its_own_algorithm(registry):
    good = "sha512:" + hashlib.sha512(MANIFEST).hexdigest()
    bad = "sha512:" + hashlib.sha512(b"other").hexdigest()
    registry.pages[f"/v2/team/app/manifests/{good}"] = Page(body=MANIFEST)
    registry.pages[f"/v2/team/app/manifests/{bad}"] = Page(body=MANIFEST)
    assert asking(registry).manifest("team/app", good).digest == good
    with pytest.raises(BadAnswer, match="content integrity error"):
        asking(registry).manifest("team/app", bad)


def test_a_compressed_answer_is_not_unpacked(registry):
    """A few bytes of gzip may hold gigabytes; nobody asked for any."""
    packed = gzip.compress(MANIFEST)
    headers = {"Content-Encoding": "gzip", "Content-Type": SCHEMA2}
    registry.pages[f"/v2/team/app/manifests/{sha256(MANIFEST)}"] = Page(body=packed, headers=headers)
    with pytest.raises(BadAnswer, match="content integrity error"):
        asking(registry).manifest("team/app", sha256(MANIFEST))
    assert registry.requests[-1].headers["Accept-Encoding"] == "identity"


def test_an_answer_that_breaks_off_is_no_answer(registry):
    registry.pages["/v2/team/app/manifests/v1"] = Page(body=MANIFEST, headers={"Content-Length": "1000"})
    registry.guard = lambda handler: setattr(handler, "close_connection", True)
    with pytest.raises(BadAnswer):
        asking(registry).manifest("team/app", "v1")


# --- limits


def test_a_manifest_may_be_as_long_as_the_limit_and_no_longer(registry):
    for size in (MAX_DOCUMENT, MAX_DOCUMENT + 1):
        registry.pages[f"/v2/team/app/manifests/{size}"] = Page(body=b" " * size)
    assert len(asking(registry).manifest("team/app", str(MAX_DOCUMENT)).content) == MAX_DOCUMENT
    with pytest.raises(BadAnswer, match="longer than 4194304 bytes"):
        asking(registry).manifest("team/app", str(MAX_DOCUMENT + 1))


def test_a_manifest_that_announces_gigabytes_is_refused_without_reading_them(registry):
    sent = []

    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
        while True:  # ends with the connection
            sent.append(handler.wfile.write(b" " * 65536))

    registry.pages["/v2/team/app/manifests/v1"] = endless
    with pytest.raises(BadAnswer, match="longer than"):
        asking(registry).manifest("team/app", "v1")
    assert sum(sent) < 64 * 1024 * 1024


def test_a_body_without_end_is_refused(registry):
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")

    registry.pages["/v2/team/app/manifests/v1"] = endless
    with pytest.raises(BadAnswer, match="longer than"):
        asking(registry).manifest("team/app", "v1")


def drip(start: bytes, byte: bytes) -> Callable[[Handler], None]:
    """A server that sends something now and then, for ever."""

    def write(handler: Handler) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(byte)
            time.sleep(0.1)

    return write


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"a"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-Header: more\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: more\r\n"),
        drip(b"HTTP/1.1 404 Not Found\r\n\r\n", b" "),
    ],
)
def test_a_server_that_sends_a_byte_now_and_then_is_cut(registry, answer):
    registry.pages["/v2/team/app/manifests/v1"] = answer
    client = asking(registry, budget=Budget(0.6, PLENTY))
    begun = time.monotonic()
    with pytest.raises(Exhausted, match="too long"):
        client.manifest("team/app", "v1")
    assert time.monotonic() - begun < 5


def test_a_server_that_never_answers_is_cut(registry):
    gone = threading.Event()
    registry.pages["/v2/team/app/manifests/v1"] = lambda _: gone.wait(20) and None
    with pytest.raises(Exhausted):
        asking(registry, budget=Budget(0.4, PLENTY)).manifest("team/app", "v1")
    gone.set()


def test_a_server_that_drips_over_tls_is_cut(tls, more):
    registry = more(tls=tls[0])
    registry.pages["/v2/team/app/manifests/v1"] = drip(b"HTTP/1.1 200 OK\r\n\r\n", b" ")
    client = asking(f"localhost:{registry.port}", trust=tls[1], insecure=False, budget=Budget(0.6, PLENTY))
    with pytest.raises(Exhausted):
        client.manifest("team/app", "v1")


def test_a_server_that_accepts_and_says_nothing_is_cut():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryError):
            asking(host, budget=Budget(0.4, PLENTY), insecure=False).manifest("team/app", "v1")


def test_the_bytes_of_all_answers_together_are_limited(registry):
    blobs = [registry.put_blob("team/app", json.dumps({"n": n, "fill": "x" * 4000}).encode()) for n in range(5)]
    client = asking(registry, budget=Budget(30, 10_000))
    for digest in blobs[:2]:
        client.document("team/app", digest)
    with pytest.raises(BadAnswer, match="too much"):
        client.document("team/app", blobs[2])


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" + b"[]," * MAX_TAGS + b"[]]",
        b'{"manifests":[' + b"{}," * MAX_TAGS + b"{}]}",
        b'{"layers":' + b"[" * (MAX_TAGS + 1),
        b'{"tags":[' + b"1," * MAX_TAGS + b"1]}",
    ],
    ids=["arrays", "objects", "depth", "numbers"],
)
def test_json_of_too_many_values_is_refused_unread(registry, bomb):
    digest = registry.put_blob("team/app", bomb)
    registry.put_manifest("team/app", bomb, SCHEMA2, "v1")
    registry.pages["/v2/team/app/tags/list"] = Page(body=bomb)
    for ask in (
        lambda client: client.manifest("team/app", "v1"),
        lambda client: client.document("team/app", digest),
        lambda client: client.tags("team/app"),
    ):
        with pytest.raises(BadAnswer, match="too many values"):
            ask(asking(registry))


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"7", b'"text"', b"{", b'{"tags":7}', b'{"tags":"v1"}', b"[" * 5000, b"\xff\xfe", b"<html>"],
)
def test_a_list_of_tags_that_is_none_is_refused(registry, body):
    registry.pages["/v2/team/app/tags/list"] = Page(body=body)
    with pytest.raises(BadAnswer):
        asking(registry).tags("team/app")


def test_pages_of_tags_that_go_round_in_circles_end(registry, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_PAGES", 5)
    link = {"Link": '</v2/team/app/tags/list>; rel="next"'}
    registry.pages["/v2/team/app/tags/list"] = Page(body=b'{"tags":["a"]}', headers=link)
    with pytest.raises(BadAnswer, match="does not end"):
        asking(registry).tags("team/app")
    assert len(registry.paths) == 5


def test_pages_of_tags_that_go_on_elsewhere_are_not_followed(registry, forbidden):
    link = {"Link": f'<{forbidden.url}/v2/team/app/tags/list>; rel="next"'}
    registry.pages["/v2/team/app/tags/list"] = Page(body=b'{"tags":["a"]}', headers=link)
    with pytest.raises(BadAnswer, match="somewhere else"):
        asking(registry).tags("team/app")


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_blob_may_be_somewhere_else(registry, more, status):
    storage = more()
    storage.pages["/signed"] = Page(body=b"{}")
    registry.pages[f"/v2/team/app/blobs/{sha256(b'{}')}"] = moved(f"{storage.url}/signed?token=1", status)
    assert asking(registry).document("team/app", sha256(b"{}")) == b"{}"
    assert storage.paths == ["/signed?token=1"]


def test_nobody_else_redirects_to_a_registry_that_is_guarded(registry, more):
    internal = more()
    internal.pages["/v2/secret/app/manifests/v1"] = Page(body=b"{}")
    internal.pages["/v2/team/app/manifests/v1"] = moved("/v2/team/app/manifests/v2")
    internal.pages["/v2/team/app/manifests/v2"] = Page(body=b"{}")
    registry.pages["/there"] = moved(f"{internal.url}/v2/secret/app/manifests/v1")
    transport = Transport(Addresses(["127.0.0.1"]), guarded=["registry.example.com", internal.url[len("http://") :]])

    def get(url: str) -> Answer:
        return transport.get(Url.parse(url), {}, "", 100, Budget(5, PLENTY), insecure=True)

    with pytest.raises(BadAnswer, match="must be named itself"):
        get(f"{registry.url}/there")
    assert internal.requests == []
    assert get(f"{internal.url}/v2/team/app/manifests/v1").status == 200


def test_credentials_do_not_follow_a_redirect_to_another_server(registry, more):
    storage = more()
    storage.pages["/signed"] = Page(body=b"{}")
    registry.require_basic(DEV.basic)
    registry.pages[f"/v2/team/app/blobs/{sha256(b'{}')}"] = moved(f"{storage.url}/signed")
    asking(registry, DEV).document("team/app", sha256(b"{}"))
    assert registry.requests[-1].authorization == DEV.basic
    assert [request.authorization for request in storage.requests] == [""]


def test_credentials_stay_away_once_they_were_left_behind(registry, more):
    there = more()
    there.pages["/back"] = moved(f"{registry.url}/final")
    registry.pages["/final"] = Page(body=b"{}")
    digest = sha256(b"{}")
    registry.pages[f"/v2/team/app/blobs/{digest}"] = moved(f"{there.url}/back")
    challenge = {"WWW-Authenticate": 'Basic realm="fake"'}
    registry.pages["/v2/"] = problem(401, "UNAUTHORIZED", challenge)
    asking(registry, DEV).document("team/app", digest)
    assert [(request.path, request.authorization) for request in registry.requests[-2:]] == [
        (f"/v2/team/app/blobs/{digest}", DEV.basic),
        ("/final", ""),
    ]


def test_credentials_go_along_on_the_same_server(registry):
    registry.require_basic(DEV.basic)
    registry.pages["/elsewhere"] = Page(body=b"{}")
    registry.pages[f"/v2/team/app/blobs/{sha256(b'{}')}"] = moved("/elsewhere")
    assert asking(registry, DEV).document("team/app", sha256(b"{}")) == b"{}"


@pytest.mark.parametrize(("hops", "fine"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)])
def test_redirects_have_an_end(registry, hops, fine):
    digest = sha256(b"{}")
    registry.pages[f"/v2/team/app/blobs/{digest}"] = moved("/hop/1")
    for hop in range(1, hops):
        registry.pages[f"/hop/{hop}"] = moved(f"/hop/{hop + 1}")
    registry.pages[f"/hop/{hops}"] = Page(body=b"{}")
    if fine:
        assert asking(registry).document("team/app", digest) == b"{}"
    else:
        with pytest.raises(BadAnswer, match="redirects more than 5 times"):
            asking(registry).document("team/app", digest)
        assert f"/hop/{hops}" not in registry.paths


def test_a_redirect_to_itself_ends(registry):
    registry.pages["/v2/team/app/manifests/v1"] = moved("/v2/team/app/manifests/v1")
    with pytest.raises(BadAnswer, match="redirects"):
        asking(registry).manifest("team/app", "v1")


def test_no_redirect_leads_from_https_to_http(tls, more):
    secure, plain = more(tls=tls[0]), more()
    plain.pages["/blob"] = Page(body=b"{}")
    secure.pages[f"/v2/team/app/blobs/{sha256(b'{}')}"] = moved(f"{plain.url}/blob")
    for insecure in (False, True):
        client = asking(f"localhost:{secure.port}", trust=tls[1], insecure=insecure)
        with pytest.raises(BadAnswer, match="from https to http"):
            client.document("team/app", sha256(b"{}"))
    assert plain.connections == 0


@pytest.mark.parametrize("host", [FORBIDDEN, "2130706434", "0177.0.0.2", "0x7f.2", "127.2", "[::ffff:127.0.0.2]"])
@pytest.mark.parametrize("what", ["blob", "token"])
def test_a_forbidden_address_is_not_connected_to_however_it_is_spelled(registry, forbidden, what, host):
    url = f"http://{host}:{forbidden.port}/token"
    if what == "blob":
        registry.pages["/v2/team/app/manifests/v1"] = moved(url)
    else:
        registry.require_token(url)
    with pytest.raises(Blocked):
        asking(registry).manifest("team/app", "v1")


@pytest.mark.parametrize("host", ["[::1]", "169.254.169.254", "[fe80::1]", "10.0.0.1", "0.0.0.0", "[::]"])
def test_a_redirect_into_the_network_around_is_blocked(registry, host):
    registry.pages["/v2/team/app/manifests/v1"] = moved(f"http://{host}/latest/meta-data/")
    with pytest.raises(Blocked):
        asking(registry).manifest("team/app", "v1")


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:70/x",
        "//",
        "http://",
        "http://[",
        "http://[::1",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:port/x",
        "http://user:password@127.0.0.1/x",
        "http://127.0.0.1\\@127.0.0.2/x",
        "http://127.0.0.1 /x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1%00/x",
        "http://f\u00e4ke/x",
        "http://[fe80::1%25lo]/x",
    ],
)
def test_a_location_that_is_no_plain_url_is_refused(registry, location):
    registry.pages["/v2/team/app/manifests/v1"] = moved(location)
    with pytest.raises(BadAnswer):
        asking(registry).manifest("team/app", "v1")


def test_a_redirect_without_a_location_is_refused(registry):
    registry.pages["/v2/team/app/manifests/v1"] = Page(302)
    with pytest.raises(BadAnswer):
        asking(registry).manifest("team/app", "v1")


def test_what_was_looked_up_is_what_is_connected_to(registry, more, forbidden):
    """A name that resolves differently the next time gains nothing."""
    answers = ["127.0.0.1", *[FORBIDDEN] * 9]
    asked = []

    def look_up(host: str, port: int, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    changing = Transport(Addresses(["rebind.test"], look_up))
    url = Url.parse(f"http://rebind.test:{registry.port}/v2/")
    assert changing.get(url, {}, "", 100, Budget(5, PLENTY), insecure=False).status == 200
    assert asked == ["rebind.test"]
    assert registry.requests[0].headers["Host"] == f"rebind.test:{registry.port}"


def test_a_host_that_does_not_answer_at_one_address_is_asked_at_the_next(registry):
    closed = "127.0.0.3"

    def look_up(host: str, port: int, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in (closed, "127.0.0.1")]

    url = Url.parse(f"http://two.test:{registry.port}/v2/")
    answer = Transport(Addresses(["two.test"], look_up)).get(url, {}, "", 100, Budget(5, PLENTY), insecure=False)
    assert answer.status == 200


def test_no_name_is_looked_up_when_the_time_is_up(registry):
    asked = []

    def look_up(host: str, *_, **__):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", registry.port))]

    url = Url.parse(f"http://slow.test:{registry.port}/v2/")
    with pytest.raises(Exhausted):
        Transport(Addresses(["slow.test"], look_up)).get(url, {}, "", 100, Budget(-1, PLENTY), insecure=False)
    assert asked == []


# --- busy registries


class Busy:
    """Answers so many times with an error, then with a manifest."""

    def __init__(self, times: int, status: int, headers: dict[str, str] | None = None) -> None:
        self.left = times
        self.page = problem(status, "BUSY", headers)

    def __call__(self, handler: Handler) -> Page:
        self.left -= 1
        return self.page if self.left >= 0 else Page(body=MANIFEST)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_registry_is_asked_twice_more(registry, status):
    registry.pages["/v2/team/app/manifests/v1"] = Busy(2, status)
    pauses: list[float] = []
    assert asking(registry, pause=pauses.append).manifest("team/app", "v1").content == MANIFEST
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_storm_of_errors_is_not_sat_out(registry, status):
    registry.pages["/v2/team/app/manifests/v1"] = Busy(1000, status)
    with pytest.raises(BadAnswer, match=f"answered {status}"):
        asking(registry).manifest("team/app", "v1")
    assert len(registry.paths) == 3


@pytest.mark.parametrize("status", [400, 404, 405, 410, 418, 501, 505])
def test_no_other_error_is_tried_again(registry, status):
    registry.pages["/v2/team/app/manifests/v1"] = Busy(1, status)
    with pytest.raises(RegistryError):
        asking(registry).manifest("team/app", "v1")
    assert len(registry.paths) == 1


@pytest.mark.parametrize(
    ("wished", "pause"),
    [("0", 0.0), ("3", 3.0), ("3600", 5.0), ("999999999", 5.0), ("-1", 1.0), ("soon", 1.0), ("1e9", 1.0), ("", 1.0)],
)
def test_a_registry_says_when_to_come_again_within_limits(registry, wished, pause):
    registry.pages["/v2/team/app/manifests/v1"] = Busy(1, 429, {"Retry-After": wished})
    pauses: list[float] = []
    asking(registry, pause=pauses.append).manifest("team/app", "v1")
    assert pauses == [pause]


def test_nobody_waits_longer_than_there_is_time(registry):
    registry.pages["/v2/team/app/manifests/v1"] = Busy(1, 429, {"Retry-After": "5"})
    pauses: list[float] = []
    with pytest.raises(BadAnswer, match="answered 429"):
        asking(registry, pause=pauses.append, budget=Budget(4, PLENTY)).manifest("team/app", "v1")
    assert pauses == []


# --- who is there


def test_a_registry_is_greeted_once(registry):
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    client = asking(registry)
    for _ in range(3):
        client.manifest("team/app", "v1")
    assert [request.path for request in registry.requests].count("/v2/") == 1


@pytest.mark.parametrize(
    "page",
    [
        Page(404, b"not here"),
        Page(204),
        Page(400, headers={"WWW-Authenticate": "Basic"}),
    ],
)
def test_what_does_not_speak_the_api_is_no_registry(registry, page):
    registry.pages["/v2/"] = page
    message = f'registry "{registry.host}" does not support the v2 Registry API'
    with pytest.raises(NotARegistry, match=message):
        asking(registry).manifest("team/app", "v1")


@pytest.mark.parametrize(
    "page", [Page(403), Page(401), Page(404, headers={"Docker-Distribution-API-Version": "registry/2.0"})]
)
def test_a_registry_need_not_greet_back_kindly(registry, page):
    registry.pages["/v2/"] = page
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    assert asking(registry).manifest("team/app", "v1").content == MANIFEST


def test_a_registry_that_is_down_is_not_taken_for_something_else(registry):
    registry.pages["/v2/"] = problem(503, "UNAVAILABLE")
    with pytest.raises(BadAnswer, match="answered 503"):
        asking(registry).manifest("team/app", "v1")


def test_a_registry_that_is_not_there_is_looked_for_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    looked = []
    addresses = Addresses(["127.0.0.1"], lambda *args, **more: looked.append(args) or socket.getaddrinfo(*args, **more))
    client = RegistryClient(Transport(addresses), host, Budget(5, PLENTY))
    for _ in range(3):
        with pytest.raises(Unreachable, match="Connection refused"):
            client.manifest("team/app", "v1")
    assert len(looked) == 1


@pytest.mark.parametrize("host", ["127.0.0.1:99999", "127.0.0.1:0x50", "", "a b", "user@127.0.0.1", "127.0.0.1/path?"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(RegistryError):
        asking(host).manifest("team/app", "v1")


# --- TLS


def test_a_registry_with_a_trusted_certificate_is_spoken_to_over_tls(tls, more):
    registry = more(tls=tls[0])
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    client = asking(f"localhost:{registry.port}", trust=tls[1], insecure=False)
    assert client.manifest("team/app", "v1").content == MANIFEST


def test_a_certificate_must_be_trusted(tls, more):
    registry = more(tls=tls[0])
    with pytest.raises(Unreachable, match=r"certificate of localhost:[0-9]+ is not trusted"):
        asking(f"localhost:{registry.port}", insecure=False).manifest("team/app", "v1")
    assert registry.requests == []


def test_a_certificate_must_be_for_the_host_that_was_named(tls, more):
    registry = more(tls=tls[0])
    with pytest.raises(Unreachable, match="is not trusted"):
        asking(registry, trust=tls[1], insecure=False).manifest("team/app", "v1")
    assert registry.requests == []


def test_an_insecure_registry_may_have_any_certificate(tls, more):
    registry = more(tls=tls[0])
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    assert asking(registry).manifest("team/app", "v1").content == MANIFEST


def test_plain_http_must_be_allowed(registry):
    with pytest.raises(HttpOnly):
        asking(registry, insecure=False).manifest("team/app", "v1")
    assert registry.requests == []


@pytest.mark.parametrize("page", [Page(404, b"no registry"), problem(500, "UNKNOWN")])
def test_an_insecure_registry_that_answers_over_tls_is_not_asked_over_http(tls, more, page):
    registry = more(tls=tls[0])
    registry.pages["/v2/"] = page
    with pytest.raises(RegistryError):
        asking(registry).manifest("team/app", "v1")
    # Every connection was one of TLS: the others would not have become requests.
    assert registry.connections == len(registry.requests) > 0


# --- access


def test_a_user_is_told_on_every_request_but_the_greeting(registry):
    registry.require_basic(DEV.basic)
    registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    client = asking(registry, DEV)
    for _ in range(2):
        client.manifest("team/app", "v1")
    assert [request.authorization for request in registry.requests] == ["", DEV.basic, DEV.basic]


@pytest.mark.parametrize("credentials", [None, Credentials("dev", "wrong")])
def test_who_has_no_access_is_denied(registry, credentials):
    registry.require_basic(DEV.basic)
    with pytest.raises(Denied):
        asking(registry, credentials).manifest("team/app", "v1")


def test_a_registry_may_forbid_without_asking_who_it_is(registry):
    registry.pages["/v2/team/app/manifests/v1"] = problem(403, "DENIED")
    with pytest.raises(Denied):
        asking(registry).manifest("team/app", "v1")


class Tokens:
    """A token server that counts."""

    def __init__(self, registry: FakeRegistry, *, token: str = "token-1", **more: object) -> None:
        self.answer: dict[str, object] = {"token": token, **more}
        self.asked: list[Handler] = []
        registry.pages["/token"] = self
        registry.require_token(f"{registry.url}/token", token)
        registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")

    def __call__(self, handler: Handler) -> Page:
        self.asked.append(handler)
        return Page(body=json.dumps(self.answer).encode())


def test_a_token_is_fetched_once_and_used_for_everything_in_a_repository(registry):
    tokens = Tokens(registry)
    client = asking(registry)
    for _ in range(3):
        client.manifest("team/app", "v1")
    assert [handler.path for handler in tokens.asked] == ["/token?service=fake&scope=repository%3Ateam%2Fapp%3Apull"]


def test_threads_share_one_token(registry):
    tokens = Tokens(registry)
    client = asking(registry)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.manifest("team/app", "v1").content, range(16)))
    assert found == [MANIFEST] * 16
    assert len(tokens.asked) == 1


def test_each_repository_has_a_token_of_its_own(registry):
    tokens = Tokens(registry)
    registry.put_manifest("team/other", MANIFEST, SCHEMA2, "v1")
    client = asking(registry)
    client.manifest("team/app", "v1")
    client.manifest("team/other", "v1")
    assert len(tokens.asked) == 2


def test_the_user_is_told_to_the_token_server_and_the_token_to_the_registry(registry):
    tokens = Tokens(registry)
    asking(registry, DEV).manifest("team/app", "v1")
    assert [handler.headers["Authorization"] for handler in tokens.asked] == [DEV.basic]
    others = [request.authorization for request in registry.requests if not request.path.startswith("/token")]
    assert others == ["", "Bearer token-1"]


def test_a_realm_may_have_a_query(registry):
    tokens = Tokens(registry)
    registry.require_token(f"{registry.url}/token?account=x")
    asking(registry).manifest("team/app", "v1")
    assert tokens.asked[0].path.startswith("/token?account=x&service=fake&scope=")


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "token-1"},
        {"access_token": "token-1"},
        {"token": "", "access_token": "token-1"},
        {"token": "token-1", "expires_in": 0},
        {"token": "token-1", "expires_in": -5},
        {"token": "token-1", "expires_in": 1e300},
        {"token": "token-1", "expires_in": "soon"},
        {"token": "token-1", "expires_in": None},
        {"token": "token-1", "expires_in": True},
    ],
)
def test_a_token_server_may_say_it_in_several_ways(registry, answer):
    tokens = Tokens(registry)
    tokens.answer = answer
    client = asking(registry)
    for _ in range(2):
        assert client.manifest("team/app", "v1").content == MANIFEST
    assert len(tokens.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"token":7}',
        b'{"token":{"a":1}}',
        b'{"token":""}',
        b'{"token":"a\\r\\nX-Injected: 1"}',
        b'{"token":"with space"}',
        b'{"token":"\\u00e4"}',
        b'{"token":"' + b"x" * 40_000 + b'"}',
        b'{"token":"' + b"x" * (2 * 1024 * 1024) + b'"}',
        b'{"a":' + b"[" * (MAX_VALUES + 1),
    ],
)
def test_a_token_that_is_none_is_refused(registry, body):
    Tokens(registry)
    registry.pages["/token"] = Page(body=body)
    with pytest.raises(BadAnswer):
        asking(registry).manifest("team/app", "v1")
    assert all("X-Injected" not in request.headers for request in registry.requests)


def test_a_token_that_ran_out_is_fetched_anew_once(registry):
    tokens = Tokens(registry)
    client = asking(registry)
    client.manifest("team/app", "v1")
    tokens.answer = {"token": "token-2"}
    registry.require_token(f"{registry.url}/token", "token-2")
    assert client.manifest("team/app", "v1").content == MANIFEST
    assert len(tokens.asked) == 2


def test_a_token_that_does_not_do_is_not_fetched_for_ever(registry):
    tokens = Tokens(registry)
    registry.require_token(f"{registry.url}/token", "another")
    fresh = iter(range(1000))
    registry.pages["/token"] = lambda handler: (
        tokens.asked.append(handler) or Page(body=json.dumps({"token": f"t{next(fresh)}"}).encode())
    )
    with pytest.raises(Denied):
        asking(registry).manifest("team/app", "v1")
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    ("body", "wrong"),
    [(b'{"details":"incorrect username or password"}', True), (b'{"details":"no"}', False), (b"\xff", False)],
)
def test_a_token_server_may_deny_and_say_that_the_password_is_wrong(registry, status, body, wrong):
    Tokens(registry)
    registry.pages["/token"] = Page(status, body)
    with pytest.raises(Denied) as denied:
        asking(registry, DEV).manifest("team/app", "v1")
    assert denied.value.wrong_password is wrong


def test_a_wrong_password_is_tried_once(registry):
    """Accounts are locked after a few tries."""
    Tokens(registry)
    registry.pages["/token"] = problem(401, "UNAUTHORIZED")
    client = asking(registry, DEV)
    for _ in range(5):
        with pytest.raises(Denied):
            client.manifest("team/app", "v1")
    assert len([path for path in registry.paths if path.startswith("/token")]) == 1


def test_a_token_server_that_is_busy_is_asked_again(registry):
    tokens = Tokens(registry)
    busy = Busy(2, 503)
    registry.pages["/token"] = lambda handler: busy(handler) if busy.left > 0 else tokens(handler)
    assert asking(registry).manifest("team/app", "v1").content == MANIFEST


def test_a_secure_registry_may_not_name_a_token_server_without_tls(tls, more):
    secure, plain = more(tls=tls[0]), more()
    secure.require_token(f"{plain.url}/token")
    with pytest.raises(BadAnswer, match="does not use TLS"):
        asking(f"localhost:{secure.port}", DEV, trust=tls[1], insecure=False).manifest("team/app", "v1")
    assert plain.connections == 0


@pytest.mark.parametrize(
    "realm", ["", "token", "ftp://127.0.0.1/token", "file:///etc/passwd", "http://", "javascript:1"]
)
def test_a_realm_that_is_no_url_is_refused(registry, realm):
    registry.require_token(realm)
    with pytest.raises(BadAnswer):
        asking(registry, DEV).manifest("team/app", "v1")


def test_a_token_server_cannot_pass_the_user_on(registry, more):
    thief = more()
    thief.pages["/token"] = Page(body=b'{"token":"token-1"}')
    Tokens(registry)
    registry.pages["/token"] = moved(f"{thief.url}/token")
    asking(registry, DEV).manifest("team/app", "v1")
    assert [request.authorization for request in thief.requests] == [""]


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ("", Challenge()),
        ("Negotiate", Challenge()),
        ('Basic realm="r"', Challenge("basic", {"realm": "r"})),
        ("basic", Challenge("basic", {})),
        ('Bearer realm="u",service="s"', Challenge("bearer", {"realm": "u", "service": "s"})),
        ('bearer Realm = "u" , Service=s', Challenge("bearer", {"realm": "u", "service": "s"})),
        ('Basic realm="r", Bearer realm="u"', Challenge("bearer", {"realm": "u"})),
        ('Bearer realm="u", Basic realm="r"', Challenge("bearer", {"realm": "u"})),
        (r'Bearer realm="a\"b\\c"', Challenge("bearer", {"realm": r'a"b\c'})),
        (
            'Bearer realm="u",scope="repository:a/b:pull,push"',
            Challenge("bearer", {"realm": "u", "scope": "repository:a/b:pull,push"}),
        ),
        ('Bearer realm="unfinished', Challenge("bearer", {})),
    ],
)
def test_a_challenge_is_read_as_servers_write_it(header, challenge):
    found = parse_challenge(header)
    assert found.scheme == challenge.scheme
    assert {name: found.parameters.get(name) for name in challenge.parameters} == challenge.parameters


def test_a_hostile_challenge_takes_no_time():
    begun = time.monotonic()
    for header in ('Bearer realm="' + "\\" * 60_000, "a=" * 30_000, 'a="' * 20_000, "a " * 30_000, '"' * 60_000):
        parse_challenge(header)
    assert time.monotonic() - begun < 5


# --- secrets


def whole_chain(error: BaseException | None) -> str:
    """Everything that a traceback of an error would tell."""
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error} {error.args}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def echo(handler: Handler) -> Page:
    """A registry that repeats what it was sent wherever it can."""
    told = handler.headers.get("Authorization", "none")
    headers = {"Content-Type": told, "Docker-Content-Digest": told, "WWW-Authenticate": f'Bearer realm="{told}"'}
    return Page(401, told.encode() * 2, headers)


def garbled(handler: Handler) -> None:
    """An answer whose every part is broken, and repeats what was sent."""
    told = handler.headers.get("Authorization", "none").encode()
    handler.wfile.write(told + b" " + told + b"\r\n" + told + b"\r\n\r\n" + told)


def bad_headers(handler: Handler) -> None:
    """Headers that no parser likes."""
    told = handler.headers.get("Authorization", "none").encode()
    handler.wfile.write(b"HTTP/1.1 500 No\r\n\x00" + told + b"\r\n: x\r\n" + told + b": x\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer",
    [
        echo,
        garbled,
        bad_headers,
        Page(500),
        Page(418, b"hunter2"),
        moved("http://127.0.0.1:1/signed?signature=hunter2"),
        moved("http://hunter2.invalid:1/"),
        moved("hunter2://x"),
        Page(body=MANIFEST, headers={"Docker-Content-Digest": sha256(b"other")}),
        Page(body=b"[" * (MAX_VALUES + 1)),
    ],
)
def test_no_secret_is_in_an_error_or_in_the_log(registry, answer, caplog):
    caplog.set_level(logging.DEBUG)
    challenge = {"WWW-Authenticate": 'Basic realm="fake"'}
    registry.pages["/v2/"] = problem(401, "UNAUTHORIZED", challenge)
    registry.pages["/v2/team/app/manifests/v1"] = answer
    with pytest.raises(RegistryError) as failure:
        asking(registry, DEV).manifest("team/app", "v1")
    assert registry.requests[-1].authorization in (DEV.basic, "")
    told = whole_chain(failure.value) + caplog.text
    for secret in ("hunter2", DEV.basic, DEV.basic.removeprefix("Basic ")):
        # The name of a host is told: without it nobody can mend anything.
        assert secret not in told.replace("hunter2.invalid", "")


def test_no_token_is_in_an_error_or_in_the_log(registry, caplog):
    caplog.set_level(logging.DEBUG)
    Tokens(registry, token="canary-token")
    registry.pages["/v2/team/app/manifests/v1"] = echo
    with pytest.raises(RegistryError) as failure:
        asking(registry, DEV).manifest("team/app", "v1")
    told = whole_chain(failure.value) + caplog.text
    assert "canary-token" not in told
    assert DEV.basic not in told


def test_credentials_do_not_print_their_password():
    assert "hunter2" not in repr(DEV) + str(DEV)


# --- what a sweep asks


def test_what_a_tag_points_to_is_told_without_fetching_it(registry):
    digest = registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    found = asking(registry).tagged("team/app", "v1")
    assert (found.digest, found.media_type) == (digest, SCHEMA2)
    assert found.time is not None
    assert abs(found.time - time.time()) < 60
    assert "application/vnd.oci.image.index.v1+json" in registry.requests[-1].headers["Accept"]


def test_a_tag_without_a_digest_is_no_answer(registry):
    registry.pages["/v2/team/app/manifests/v1"] = Page(body=MANIFEST, headers={"Content-Type": SCHEMA2})
    with pytest.raises(BadAnswer, match="digest"):
        asking(registry).tagged("team/app", "v1")


def test_a_registry_without_a_clock_tells_no_time(registry):
    digest = sha256(MANIFEST)

    def answer(handler: Handler) -> None:
        lines = ["HTTP/1.1 200 OK", f"Docker-Content-Digest: {digest}", "Date: soon", "Content-Length: 0", "", ""]
        handler.wfile.write("\r\n".join(lines).encode())

    registry.pages["/v2/team/app/manifests/v1"] = answer
    assert asking(registry).tagged("team/app", "v1").time is None


def test_the_catalog_is_read_page_by_page(registry):
    link = {"Link": '</v2/_catalog?last=b&n=1000>; rel="next"'}
    registry.pages["/v2/_catalog?n=1000"] = Page(body=b'{"repositories": ["team/a", "team/b", 7, "a b"]}', headers=link)
    registry.pages["/v2/_catalog?last=b&n=1000"] = Page(body=b'{"repositories": ["team/c"]}')
    assert list(asking(registry).repositories()) == ["team/a", "team/b", "team/c"]


def test_a_token_for_the_catalog_is_asked_for(registry):
    registry.require_token(f"{registry.url}/token")
    registry.pages["/token"] = Page(body=b'{"token": "token-1"}')
    registry.pages["/v2/_catalog"] = Page(body=b'{"repositories": []}')
    assert list(asking(registry, DEV).repositories()) == []
    assert [path for path in registry.paths if "token" in path] == [
        "/token?service=fake&scope=registry%3Acatalog%3A%2A"
    ]


def test_a_registry_that_is_known_to_speak_http_is_not_greeted_with_tls(registry):
    digest = registry.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    assert asking(registry, insecure=False, scheme="http").manifest("team/app", "v1").digest == digest
    assert registry.connections == 2


def test_a_registry_that_is_to_speak_tls_is_not_asked_without(registry):
    with pytest.raises(Unreachable):
        asking(registry, insecure=True, scheme="https").tags("team/app")
    assert registry.requests == []


def test_certificates_are_checked_when_the_scheme_is_known(more, tls):
    server, trust = tls
    secure = more(address="localhost", tls=server)
    secure.put_manifest("team/app", MANIFEST, SCHEMA2, "v1")
    assert asking(secure, scheme="https", trust=trust).tags("team/app") == ["v1"]
    with pytest.raises(Unreachable, match="not trusted"):
        asking(secure, scheme="https").tags("team/app")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_cannot_answer_now_says_so(registry, status):
    registry.pages["/v2/team/app/tags/list"] = Page(status)
    with pytest.raises(Overloaded):
        asking(registry).tags("team/app")
