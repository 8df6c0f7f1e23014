"""Idempotency-Key: a write that is sent again is done once, and answered as it was the first time."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_registry import FakeRegistry, fake_registry
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import create_app
from api.idempotency import KEY, REPLAYED
from imagestream_es.access.identity import User
from imagestream_es.application.principals import forget
from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.events import DomainEvent
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.projections.projector import rebuild
from imagestream_es.recovery.export import export, import_log
from imagestream_es.settings import Settings

GROUP = "/apis/image.openshift.io/v1"
SPACE = f"{GROUP}/namespaces/shop"
HISTORY = "/apis/history.imagestream-es.io/v1/namespaces/shop"
STREAM, TAG, IMAGE_TAG = (
    f"{SPACE}/{path}" for path in ("imagestreams/web", "imagestreamtags/web:a", "imagetags/web:a")
)
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
ONCE = {KEY: "once"}

Write = Callable[[FlaskClient, dict[str, str]], TestResponse]


def log(client: FlaskClient) -> list[DomainEvent]:
    """Every event."""
    mapper = EventMapper()
    found: list[DomainEvent] = client.application.extensions["imagestream"].queries.reading(
        lambda rows: [mapper.decode(stored.topic, stored.state) for _, stored in rows.log(0, rows.head())]
    )
    return found


def push(client: FlaskClient, tag: str, image: str, headers: dict[str, str] | None = None) -> TestResponse:
    reference = f"registry.example.com/shop/web@{image}"
    body = {
        "metadata": {"name": "web"},
        "tag": tag,
        "image": {"metadata": {"name": image}, "dockerImageReference": reference},
    }
    return client.post(f"{SPACE}/imagestreammappings", json=body, headers=headers)


def begin(client: FlaskClient) -> None:
    """A stream whose tag `a` named B, then A, and whose tag `b` names B."""
    assert client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}).status_code == 201
    for tag, image in (("a", B), ("a", A), ("b", B)):
        assert push(client, tag, image).status_code == 201


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    begin(client)
    return client


def source(image: str) -> dict[str, Any]:
    return {"from": {"kind": "ImageStreamImage", "name": f"web@{image}"}}


def put_stream(client: FlaskClient, headers: dict[str, str]) -> TestResponse:
    """Sends what was read, with a label more."""
    found = client.get(f"{STREAM}?asOf=7").get_json()
    found["metadata"]["labels"] = {"put": "yes"}
    return client.put(STREAM, json=found, headers=headers)


def put_image_tag(client: FlaskClient, headers: dict[str, str]) -> TestResponse:
    found = client.get(f"{IMAGE_TAG}?asOf=7").get_json()
    found["spec"] = {"name": "a", **source(B)}
    return client.put(IMAGE_TAG, json=found, headers=headers)


def prune(client: FlaskClient, headers: dict[str, str]) -> TestResponse:
    found = client.get(f"{STREAM}?asOf=7").get_json()
    found["status"]["tags"] = [{**tag, "items": tag["items"][:1]} for tag in found["status"]["tags"]]
    return client.put(f"{STREAM}/status", json=found, headers=headers)


def applied(path: str, kind: str, body: dict[str, Any]) -> Write:
    text = json.dumps({"apiVersion": "image.openshift.io/v1", "kind": kind, **body})

    def send(client: FlaskClient, headers: dict[str, str]) -> TestResponse:
        return client.patch(f"{path}?fieldManager=me", data=text, content_type=APPLY, headers=headers)

    return send


def sends(method: str, path: str, body: Any = None, media_type: str = "application/json") -> Write:
    text = None if body is None else json.dumps(body)
    return lambda client, headers: client.open(path, method=method, data=text, content_type=media_type, headers=headers)


NEW = {"metadata": {"name": "new", "labels": {"a": "b"}}}
LABELS = {"metadata": {"labels": {"team": "red"}}}
TAGGED = {"metadata": {"name": "web:a"}, "tag": source(B)}
WRITES: dict[str, Write] = {
    "create a stream": sends("POST", f"{SPACE}/imagestreams", NEW),
    "create a stream under a made name": sends("POST", f"{SPACE}/imagestreams", {"metadata": {"generateName": "made"}}),
    "update a stream": put_stream,
    "patch a stream": sends("PATCH", STREAM, LABELS, MERGE),
    "apply a stream": applied(STREAM, "ImageStream", LABELS),
    "apply a new stream": applied(f"{SPACE}/imagestreams/new", "ImageStream", NEW),
    "prune": prune,
    "delete a stream": sends("DELETE", STREAM),
    "delete streams": sends("DELETE", f"{SPACE}/imagestreams"),
    "push": lambda client, headers: push(client, "a", C, headers),
    "create an istag": sends("POST", f"{SPACE}/imagestreamtags", TAGGED),
    "create an istag and its stream": sends(
        "POST",
        f"{SPACE}/imagestreamtags",
        {"metadata": {"name": "new:a"}, "tag": {"from": {"kind": "DockerImage", "name": "quay.io/a/b:c"}}},
    ),
    "update an istag": sends("PUT", TAG, TAGGED),
    "patch an istag": sends("PATCH", TAG, {"tag": source(B)}, MERGE),
    "apply an istag": applied(TAG, "ImageStreamTag", {"tag": source(B)}),
    "delete an istag": sends("DELETE", TAG),
    "create an itag": sends("POST", f"{SPACE}/imagetags", {"metadata": {"name": "web:a"}, "spec": source(B)}),
    "update an itag": put_image_tag,
    "patch an itag": sends("PATCH", IMAGE_TAG, {"spec": source(B)}, MERGE),
    "delete an itag": sends("DELETE", IMAGE_TAG),
    "roll back": sends("POST", f"{HISTORY}/rollbacks", {"spec": {"stream": "web", "tag": "a", "changesAgo": 1}}),
    "create an image": sends(
        "POST", f"{GROUP}/images", {"metadata": {"name": C}, "dockerImageReference": f"quay.io/a/b@{C}"}
    ),
    "patch an image": sends("PATCH", f"{GROUP}/images/{A}", LABELS, MERGE),
    "delete an image": sends("DELETE", f"{GROUP}/images/{B}"),
    "delete images": sends("DELETE", f"{GROUP}/images"),
    "sign an image": sends(
        "POST", f"{GROUP}/imagesignatures", {"metadata": {"name": f"{A}@me"}, "type": "t", "content": "YQ=="}
    ),
}
IN_VAIN: dict[str, Write] = {
    "patch nothing": sends("PATCH", STREAM, {"metadata": {"labels": None}}, MERGE),
    "roll back to what is there": sends(
        "POST", f"{HISTORY}/rollbacks", {"spec": {"stream": "web", "tag": "b", "toImage": B}}
    ),
    "delete no streams": sends("DELETE", f"{GROUP}/namespaces/void/imagestreams"),
}
"""Writes that are accepted and change nothing."""


def turn_everything_over(client: FlaskClient) -> None:
    """Move the tags, delete and make again what there is."""
    push(client, "a", C)
    client.delete(TAG)
    client.delete(STREAM)
    client.delete(f"{GROUP}/images")
    client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}})
    client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "new"}})
    push(client, "a", B)


def same(first: TestResponse, again: TestResponse) -> None:
    assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"


@pytest.mark.parametrize("name", [*WRITES, *IN_VAIN])
def test_a_retry_gets_the_first_answer_and_makes_no_event(web: FlaskClient, name: str) -> None:
    write = (WRITES | IN_VAIN)[name]
    before = len(log(web))
    first = write(web, ONCE)
    assert first.status_code in (200, 201), first.get_json()
    made = log(web)[before:]
    assert bool(made) == (name in WRITES)
    assert {(event.by.key, len(event.by.fingerprint)) for event in made} <= {("once", 32)}
    same(first, write(web, ONCE))
    turn_everything_over(web)
    before = len(log(web))
    same(first, write(web, ONCE))
    assert len(log(web)) == before


@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_done_by_many_at_once_each_retry_gets_its_first_answer(web: FlaskClient, seed: int) -> None:
    writes = [*WRITES.items(), *IN_VAIN.items()]
    done = []

    def work(number: int) -> None:
        choice, client = random.Random(f"{seed}/{number}"), client_of(web)
        for turn in range(15):
            name, write = choice.choice(writes)
            first = write(client, {KEY: f"{number}-{turn}"})
            assert first.status_code < 500
            if first.status_code < 300:
                done.append((f"{number}-{turn}", name, write, first))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(done) > 10
    before = len(log(web))
    for key, name, write, first in sorted(done, key=lambda one: one[0]):
        again = write(web, {KEY: key})
        assert (name, again.status_code, again.get_json()) == (name, first.status_code, first.get_json())
        assert again.headers[REPLAYED] == "true"
    assert len(log(web)) == before


def test_an_apply_of_what_is_there_is_known_again(web: FlaskClient) -> None:
    write = applied(STREAM, "ImageStream", LABELS)
    write(web, {})
    before = len(log(web))
    first = write(web, ONCE)
    assert len(log(web)) == before
    turn_everything_over(web)
    same(first, write(web, ONCE))


def test_a_retry_is_answered_before_its_precondition_is_looked_at(web: FlaskClient) -> None:
    headers = {**ONCE, "If-Match": f'"{A}"'}
    first = push(web, "a", C, headers)
    assert first.status_code == 201
    assert push(web, "a", C, {"If-Match": f'"{A}"'}).status_code == 412
    same(first, push(web, "a", C, headers))


@pytest.mark.parametrize(
    "other",
    [
        lambda client: push(client, "b", C, ONCE),
        lambda client: push(client, "a", C, {**ONCE, "If-Match": "*"}),
        lambda client: push(client, "a", C, {**ONCE, "X-Change-Reason": "why not"}),
        lambda client: client.delete(TAG, headers=ONCE),
        lambda client: client.delete(STREAM, headers=ONCE),
    ],
    ids=["another body", "a precondition", "a reason", "another path", "another method"],
)
def test_another_request_under_the_key_is_refused(web: FlaskClient, other: Callable[[FlaskClient], Any]) -> None:
    push(web, "a", C, ONCE)
    before = len(log(web))
    answer = other(web)
    assert (answer.status_code, answer.json["reason"], answer.json["code"]) == (422, "Invalid", 422)
    assert "once" in answer.json["message"]
    assert answer.json["details"]["causes"][0]["field"] == KEY
    assert len(log(web)) == before


def test_a_refused_write_leaves_the_key_free(web: FlaskClient) -> None:
    assert push(web, "a", C, {**ONCE, "If-None-Match": "*"}).status_code == 412
    assert (
        client_of(web).post(f"{SPACE}/imagestreams", json={"metadata": {"name": "-"}}, headers=ONCE).status_code == 422
    )
    assert push(web, "a", C, ONCE).status_code == 201
    assert log(web)[-1].by.key == "once"


def client_of(client: FlaskClient) -> FlaskClient:
    return client.application.test_client()


def test_a_dry_run_neither_uses_the_key_nor_looks_at_it(web: FlaskClient) -> None:
    path = f"{SPACE}/imagestreams?dryRun=All"
    assert web.post(path, json=NEW, headers=ONCE).status_code == 201
    assert push(web, "a", C, ONCE).status_code == 201
    answer = web.post(path, json=NEW, headers=ONCE)
    assert answer.status_code == 201
    assert REPLAYED not in answer.headers


def test_without_a_key_everything_is_done_again(web: FlaskClient) -> None:
    before = len(log(web))
    assert [push(web, "a", image).status_code for image in (C, B, C)] == [201] * 3
    assert len(log(web)) == before + 4
    assert not [event for event in log(web) if event.by.key or event.by.fingerprint]


def test_a_key_is_looked_for_in_writes_alone(web: FlaskClient) -> None:
    push(web, "a", C, ONCE)
    for key in ("once", "", "ä", "x" * 1000):
        answer = web.get(TAG, headers={KEY: key})
        assert answer.status_code == 200
        assert REPLAYED not in answer.headers


def test_who_only_asks_under_a_key_is_not_written_down(web: FlaskClient, be: Callable[[User], None]) -> None:
    be(User("alice", groups=("system:masters",), issuer="token-file"))
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answers = [web.post(path, json=review, headers=ONCE) for _ in range(2)]
    assert [(one.status_code, REPLAYED in one.headers) for one in answers] == [(201, False)] * 2
    assert web.application.extensions["imagestream"].principals.ids("alice") == []


def test_an_unknown_outcome_may_be_asked_for_again_under_a_key(
    web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("who knows", may_be_stored=True)

    monkeypatch.setattr("imagestream_es.application.writer.Begun.outcome", fail)
    assert "Retry-After" not in push(web, "a", C).headers
    answer = push(web, "a", C, ONCE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside", "schlüssel", "☃".encode().decode("latin-1"), "\x7f"])
def test_what_is_no_key_is_refused_with_the_rule(web: FlaskClient, key: str) -> None:
    before = len(log(web))
    answer = push(web, "a", C, {KEY: key})
    assert (answer.status_code, answer.json["reason"]) == (400, "BadRequest")
    assert "1 to 255 printable ASCII characters" in answer.json["message"]
    assert len(log(web)) == before


@pytest.mark.parametrize(
    "key", ["x", "x" * 255, "a b", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "'; DROP TABLE x;--", "~!%?"]
)
def test_a_key_may_be_any_printable_text(web: FlaskClient, key: str) -> None:
    same(push(web, "a", C, {KEY: key}), push(web, "a", C, {KEY: key}))
    assert log(web)[-1].by.key == key


def test_the_retry_may_ask_for_another_form_of_the_answer(web: FlaskClient) -> None:
    patch = {"data": json.dumps(LABELS), "content_type": MERGE}
    first = web.patch(STREAM, headers=ONCE, **patch)
    table = web.patch(
        f"{STREAM}?pretty=true", headers={**ONCE, "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}, **patch
    )
    assert (first.status_code, table.status_code) == (200, 200)
    assert table.json["kind"] == "Table"
    assert table.headers[REPLAYED] == "true"


def test_warnings_are_told_again(web: FlaskClient) -> None:
    body = {**NEW, "odd": 1}
    first, again = (web.post(f"{SPACE}/imagestreams", json=body, headers=ONCE) for _ in range(2))
    same(first, again)
    assert first.headers["Warning"] == again.headers["Warning"]


# --- users


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Callable[[User], None]:
    """Have all requests from here on come from a user."""
    return lambda user: monkeypatch.setattr("imagestream_es.access.gate.Gate.authenticate", lambda *_: user)


def test_each_user_has_keys_of_their_own(web: FlaskClient, be: Callable[[User], None]) -> None:
    alice, robert = (User(name, groups=("system:masters",), issuer="token-file") for name in ("alice", "robert"))
    be(alice)
    first = push(web, "a", C, ONCE)
    be(robert)
    answer = web.delete(TAG, headers=ONCE)
    assert answer.status_code == 200
    assert REPLAYED not in answer.headers
    be(alice)
    same(first, push(web, "a", C, ONCE))


# --- at the same time


def at_once(write: Callable[[], TestResponse], times: int) -> list[TestResponse]:
    gate = threading.Barrier(times)

    def one(_: int) -> TestResponse:
        gate.wait(30)
        return write()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


@pytest.mark.parametrize(
    "name", ["push", "create a stream under a made name", "delete a stream", "patch a stream", "delete streams"]
)
def test_of_twins_only_one_is_done(web: FlaskClient, name: str) -> None:
    before = len(log(web))
    answers = at_once(lambda: WRITES[name](client_of(web), ONCE), 8)
    assert len({(one.status_code, one.get_data()) for one in answers}) == 1
    assert sum(REPLAYED not in one.headers for one in answers) == 1
    assert len({event.by.request for event in log(web)[before:]}) == 1


def test_of_rivals_for_a_key_one_is_done_and_the_others_are_refused(web: FlaskClient) -> None:
    images = iter([f"sha256:{number:064x}" for number in range(8)])
    before = len(log(web))
    answers = at_once(lambda: push(client_of(web), "a", next(images), ONCE), 8)
    assert sorted(one.status_code for one in answers) == [201, *[422] * 7]
    assert len(log(web)) == before + 2


# --- several services, lost views, forgotten users


@pytest.fixture
def twins(postgres_url: str, tmp_path: Any) -> Iterator[tuple[FlaskClient, FlaskClient]]:
    """Two services on one PostgreSQL database."""
    apps = [
        create_app(
            Settings(data_dir=tmp_path / name, database_url=postgres_url, import_controller="off", access_log="off")
        )
        for name in ("one", "other")
    ]
    yield apps[0].test_client(), apps[1].test_client()
    for app in apps:
        app.extensions["imagestream"].close()


def test_services_on_one_database_do_once_what_each_of_them_is_told(twins: tuple[FlaskClient, FlaskClient]) -> None:
    one, other = twins
    begin(one)
    clients = [client for client in (one, other) for _ in range(3)]
    for name in ("patch a stream", "roll back", "push", "create a stream under a made name", "delete streams"):
        before, turns = len(log(one)), iter(clients)
        answers = at_once(lambda turns=turns, name=name: WRITES[name](client_of(next(turns)), {KEY: name}), 6)  # type: ignore[misc]
        assert len({(answer.status_code, answer.get_data()) for answer in answers}) == 1
        assert sum(REPLAYED not in answer.headers for answer in answers) == 1
        assert len({event.by.request for event in log(other)[before:]}) == 1
    for name in ("patch a stream", "roll back", "push"):
        assert WRITES[name](one, {KEY: name}).get_json() == WRITES[name](other, {KEY: name}).get_json()


@pytest.mark.parametrize("name", ["patch a stream", "roll back", "delete images", "apply a new stream"])
def test_keys_are_folded_from_the_log_again(web: FlaskClient, name: str) -> None:
    first = WRITES[name](web, ONCE)
    writer = web.application.extensions["imagestream"].commands.writer
    rebuild(writer._store)
    same(first, WRITES[name](web, ONCE))


def test_a_log_that_was_exported_keeps_its_keys(web: FlaskClient, tmp_path: Any) -> None:
    first = WRITES["roll back"](web, ONCE)
    services = web.application.extensions["imagestream"]
    file, settings = tmp_path / "log.jsonl", Settings(data_dir=tmp_path / "new", import_controller="off")
    export(services.settings, file, compress=False, progress=lambda *_: None)
    import_log(settings, file, None, lambda *_: None)
    app = create_app(settings)
    try:
        same(first, WRITES["roll back"](app.test_client(), ONCE))
    finally:
        app.extensions["imagestream"].close()


def test_who_was_forgotten_begins_anew_and_others_keep_their_keys(web: FlaskClient, be: Callable[[User], None]) -> None:
    alice, robert = (User(name, groups=("system:masters",), issuer="token-file") for name in ("alice", "robert"))
    be(alice)
    push(web, "a", C, ONCE)
    be(robert)
    first = push(web, "b", A, ONCE)
    services = web.application.extensions["imagestream"]
    assert forget(services.commands.writer._store, "alice", services.clock(), lambda _: None) == 1
    services.principals._valid_until = float("-inf")  # as if the lease had run out
    same(first, push(web, "b", A, ONCE))
    be(alice)
    answer = push(web, "a", C, ONCE)
    assert (answer.status_code, REPLAYED in answer.headers) == (201, False)


def test_a_key_is_of_whom_somebody_acts_as(tmp_path: Any) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("t1,root,1,system:masters\nt2,boss,2,system:masters\nt3,alice,3,system:masters\n")
    app = create_app(
        Settings(data_dir=tmp_path / "data", token_auth_file=tokens, import_controller="off", access_log="off")
    )
    client = app.test_client()

    def create(token: str, **more: str) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}", **ONCE, **{f"Impersonate-{key}": more[key] for key in more}}
        return client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}, headers=headers)

    try:
        first = create("t1", User="alice", Group="system:masters")
        assert first.status_code == 201
        same(first, create("t2", User="alice", Group="system:masters"))
        assert create("t1").status_code == 409
    finally:
        app.extensions["imagestream"].close()


# --- imports


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


@pytest.fixture
def importing(tmp_path) -> Iterator[FlaskClient]:
    settings = Settings(data_dir=tmp_path / "imports", import_allow=("127.0.0.1",), import_controller="off")
    app = create_app(settings)
    yield app.test_client()
    app.extensions["imagestream"].close()


def import_of(registry: FakeRegistry, *, store: bool) -> Write:
    images = [
        {"from": {"kind": "DockerImage", "name": f"{registry.host}/team/app:{tag}"}, "importPolicy": {"insecure": True}}
        for tag in ("v1", "missing")
    ]
    return sends(
        "POST",
        f"{SPACE}/imagestreamimports",
        {"metadata": {"name": "web"}, "spec": {"import": store, "images": images}},
    )


@pytest.mark.parametrize("store", [True, False], ids=["stored", "only looked at"])
def test_an_import_is_answered_as_it_was_without_asking_the_registry(
    importing: FlaskClient, registry: FakeRegistry, store: bool
) -> None:
    registry.push("team/app", "v1")
    write = import_of(registry, store=store)
    first = write(importing, ONCE)
    assert first.status_code == 201
    assert [one["status"]["status"] for one in first.json["status"]["images"]] == ["Success", "Failure"]
    registry.push("team/app", "missing")
    importing.delete(STREAM)
    before, asked = len(log(importing)), len(registry.requests)
    same(first, write(importing, ONCE))
    assert (len(log(importing)), len(registry.requests)) == (before, asked)


def test_of_twin_imports_one_is_recorded_and_both_are_answered_alike(
    importing: FlaskClient, registry: FakeRegistry
) -> None:
    registry.push("team/app", "v1")
    write = import_of(registry, store=True)
    answers = at_once(lambda: write(client_of(importing), ONCE), 4)
    assert {one.status_code for one in answers} == {201}
    assert len({one.get_data() for one in answers}) == 1
    assert len({event.by.request for event in log(importing)[1:]}) == 1


def test_an_import_whose_answer_is_not_known_any_more_is_not_done_again(
    importing: FlaskClient, registry: FakeRegistry
) -> None:
    registry.push("team/app", "v1")
    write = import_of(registry, store=True)
    assert write(importing, ONCE).status_code == 201
    services = importing.application.extensions["imagestream"]
    with services.commands.writer._store.writing() as rows:
        rows.run("DELETE FROM answers")
    before = len(log(importing))
    answer = write(importing, ONCE)
    assert (answer.status_code, answer.json["reason"]) == (409, "Conflict")
    assert "done before" in answer.json["message"]
    assert len(log(importing)) == before


# --- from outside


def test_odd_keys_on_the_wire_do_nothing_twice(service: Any) -> None:
    body = json.dumps({"metadata": {"generateName": "made"}}).encode()

    def create(*lines: bytes) -> int:
        request = b"POST %s/imagestreams HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n" % (
            SPACE.encode(),
            service.address.encode(),
            len(body),
        )
        with socket.create_connection(service.address.split(":"), timeout=30) as connection:
            connection.sendall(request + b"".join(b"Idempotency-Key: %s\r\n" % line for line in lines) + b"\r\n" + body)
            return int(connection.makefile("rb").readline().split()[1])

    def count() -> int:
        return len(json.loads(service.request(f"{SPACE}/imagestreams")[1])["items"])

    for lines in ([b"a", b"b"], [b"a", b"a"], [b"a, b"]):
        before = count()
        statuses = {create(*lines) for _ in range(2)}
        assert statuses <= {201, 400}
        assert count() <= before + 1
    before = count()
    assert {create(key) for key in (b"", b"x" * 4000, "ä".encode(), b"\xff\xfe", b"a\tb")} == {400}
    assert create(b"x" * 200_000) in (400, 431)
    assert count() == before
    assert {create(b"key %d" % number) for number in range(200)} == {201}
    assert count() == before + 200
