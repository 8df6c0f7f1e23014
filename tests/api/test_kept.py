"""Answers that are given again: they are what would be answered anew, go to those alone who may have them, and cost
no look at the store."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from flask.testing import FlaskClient
from histories import IMAGES, REGISTRY, SPACES, Step, World, a_world, histories, raw, thoroughly
from hypothesis import given, settings
from image_api import PARTIAL, TABLE, client_of, create, delete, get, names, push, update
from werkzeug.test import TestResponse

from api import create_app
from api.ready import WORTH_COMPRESSING
from api.resources.image_streams import pen
from imagestream_es.application import drawings
from imagestream_es.application.drawings import Drawing, Drawings
from imagestream_es.application.recent import Recent
from imagestream_es.settings import Settings

GROUP = "/apis/image.openshift.io/v1"
KINDS = ("imagestreams", "imagestreamtags", "imagetags")
PATHS = (
    *KINDS,
    "images",
    *(f"namespaces/{space}/{kind}" for space in SPACES for kind in KINDS),
    "/oapi/v1/namespaces/shop/imagestreams",
    "namespaces/shop/imagestreams/web",
    "namespaces/shop/imagestreams/web/status",
    "/oapi/v1/namespaces/shop/imagestreams/web",
    "namespaces/shop/imagestreamtags/web:latest",
    "namespaces/shop/imagetags/web:latest",
    f"namespaces/shop/imagestreamimages/web@{IMAGES[0]}",
    *(f"images/{image}" for image in IMAGES),
)
STREAMS = [path for path in PATHS if "imagestreams" in path and "status" not in path and "oapi" not in path]
QUERIES: tuple[dict[str, str], ...] = ({}, {"labelSelector": "x"}, {"limit": "1"}, {"limit": "500", "version": "0"})


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as found:
        yield found


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world)


def told(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.data, sorted((k, v) for k, v in answer.headers if k != "Audit-Id")


@settings(thoroughly, max_examples=25)
@given(histories)
def test_what_is_given_again_is_what_would_be_answered_anew(steps: list[Step]) -> None:
    asked: list[Asked] = [(path, "application/json", {}) for path in PATHS]
    asked += [(path, "application/yaml", {}) for path in PATHS[::4]]
    asked += [(path, "application/json", query) for path in PATHS[:4] for query in QUERIES]
    asked += [(path, PARTIAL, {}) for path in PATHS[:3]]
    with a_world() as world:
        check_answers(world, steps, asked)


@settings(thoroughly, max_examples=25)
@given(histories)
def test_a_history_that_grows_is_the_same_as_one_that_is_read(steps: list[Step]) -> None:
    asked: list[Asked] = [(path, "application/json", {}) for path in STREAMS]
    short = patch.multiple(drawings, LONG=0, FARTHEST=3, TOGETHER=2)
    with short, a_world() as world:
        check_answers(world, steps, asked)


Asked = tuple[str, str, dict[str, str]]


def check_answers(world: World, steps: list[Step], asked: list[Asked]) -> None:
    client = client_of(world)
    etags: dict[tuple[str, ...], dict[str, bytes]] = {}
    for number, _ in enumerate(world.live_through(steps)):
        for path, accept, query in asked[number % 5 :: 5]:  # what is not asked now may be old when it is
            with nothing_kept(world):
                first = get(client, path, accept, **query)
            anew = told(first)
            if "ETag" in first.headers:
                known = etags.setdefault((path, accept, *query.items()), {})
                check_etag(known, first.headers["ETag"], TOLD_ANEW.sub(b"", first.data))
            assert told(get(client, path, accept, **query)) == anew
            assert told(get(client, path, accept, **query)) == anew
            if path in STREAMS and "json" in accept:
                from_objects = get(client, path, accept, **query | {"pretty": "1"})
                assert json.dumps(json.loads(anew[1])) == json.dumps(from_objects.json)


TOLD_ANEW = re.compile(rb'^\{"metadata":\{"resourceVersion":"\d+"')
"""How a list begins whose ETag is one of its items."""


def check_etag(known: dict[str, bytes], etag: str, text: bytes) -> None:
    """An ETag and a text belong to each other, among those that are known of one question."""
    assert known.setdefault(etag, text) == text
    assert list(known.values()).count(text) == 1


@contextmanager
def nothing_kept(world: World) -> Iterator[None]:
    """Nothing is known of what was answered or drawn before."""
    nothing = Recent(0)
    with patch.object(world, "memory", nothing), patch.object(world, "drawings", Drawings(world.queries, nothing)):
        yield


@pytest.mark.parametrize(("most", "is_drawn"), [(8, True), (7, False)])
def test_the_longest_histories_are_drawn_before_anybody_asks(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, *, most: int, is_drawn: bool
) -> None:
    for number in range(7):
        push(world, "shop", "web", "v1", IMAGES[number % 2])
    path = "namespaces/shop/imagestreams/web"
    with nothing_kept(world):
        anew = told(get(client, path))
    with patch.multiple(drawings, LONGEST=8, EARLY=most):
        world.drawings.prepare(pen(Settings(internal_registry=REGISTRY)))
    drawn: list[object] = []
    monkeypatch.setattr(Drawings, "_anew", lambda *about, draw=Drawings._anew: drawn.append(about) or draw(*about))
    assert told(get(client, path)) == anew
    assert (drawn == []) is is_drawn


def test_what_cannot_be_drawn_before_anybody_asks_hinders_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(world.store, "reading", None)
    world.drawings.prepare(pen(Settings()))
    assert "could not be drawn" in caplog.text


class Stopped(Exception):
    pass


@pytest.fixture
def no_store(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Calling it makes every look at the store fail."""

    def stop() -> None:
        def fail() -> None:
            raise Stopped

        monkeypatch.setattr(world.store, "reading", fail)

    return stop


@pytest.mark.parametrize(
    "path", ["imagestreams", "images", "namespaces/shop/imagestreams/web", "namespaces/shop/imagestreamtags/web:v1"]
)
def test_what_did_not_change_is_given_again_without_the_store(
    world: World, client: FlaskClient, no_store: Callable[[], None], path: str
) -> None:
    push(world, "shop", "web", "v1")
    first = get(client, path)
    no_store()
    assert told(get(client, path)) == told(first)
    assert get(client, path, version="0").status_code == 500  # another question


def test_a_change_elsewhere_leaves_what_is_kept(
    world: World, client: FlaskClient, no_store: Callable[[], None]
) -> None:
    push(world, "shop", "web", "v1")
    paths = [
        "namespaces/shop/imagestreams/web",
        "namespaces/shop/imagestreams",
        "namespaces/shop/imagestreamtags/web:v1",
    ]
    first = {path: get(client, path) for path in paths}
    head = push(world, "tools", "web", "v1", IMAGES[1])
    no_store()
    again = {path: get(client, path) for path in paths}
    assert [again[path].data for path in paths[::2]] == [first[path].data for path in paths[::2]]
    old, new = first[paths[1]].json, again[paths[1]].json
    assert old and new  # noqa: PT018 (for mypy)
    assert new == old | {"metadata": {"resourceVersion": str(head)}}  # a list tells how far the log has come


def test_an_image_that_changes_is_seen_through_its_tags(world: World, client: FlaskClient) -> None:
    push(world, "shop", "web", "v1")
    path = "namespaces/shop/imagestreamtags/web:v1"
    get(client, path)
    document = raw({"dockerImageReference": "changed", "metadata": {"labels": {"new": "1"}}})
    world.commands.update_image(world.caller(None), IMAGES[0], lambda _: document)
    assert b'"labels":{"new":"1"}' in get(client, path).data


def test_a_stream_that_is_deleted_is_gone(world: World, client: FlaskClient) -> None:
    assert get(client, "namespaces/shop/imagestreams/web").status_code == 200
    delete(world, "shop", "web")
    assert get(client, "namespaces/shop/imagestreams/web").status_code == 404
    assert names(get(client, "imagestreams").json or {}) == ["tools/web"]


def test_ages_are_told_as_they_are_now(world: World, client: FlaskClient, no_store: Callable[[], None]) -> None:
    get(client, "imagestreams", TABLE)
    no_store()
    assert get(client, "imagestreams", TABLE).status_code == 500


def test_the_answer_to_a_long_question_is_not_kept(
    world: World, client: FlaskClient, no_store: Callable[[], None]
) -> None:
    short, long = "application/json", f"application/json,{'x' * 2000}"
    for accept in (short, long):
        assert get(client, "imagestreams", accept).status_code == 200
    no_store()
    assert get(client, "imagestreams", short).status_code == 200
    assert get(client, "imagestreams", long).status_code == 500


# --- ETags


def test_who_has_the_newest_version_is_not_sent_it_again(world: World, client: FlaskClient) -> None:
    path = f"{GROUP}/namespaces/shop/imagestreams/web"
    for _ in range(2):  # the long way and the short one
        first = client.get(path)
        etag = first.headers["ETag"]
        assert etag.startswith('W/"')
        same = client.get(path, headers={"If-None-Match": f'"other", {etag}'})
        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
        assert same.headers["Vary"] == "Accept, Accept-Encoding"
        assert client.head(path, headers={"If-None-Match": etag}).status_code == 304
    update(world, "shop", "web", labels={"x": "1"})
    changed = client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


def test_a_list_keeps_its_etag_while_others_are_written(world: World, client: FlaskClient) -> None:
    path = f"{GROUP}/namespaces/shop/imagestreams"
    etag = client.get(path).headers["ETag"]
    create(world, "tools", "other")
    for known in (nullcontext(), nothing_kept(world)):
        with known:
            assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
            assert client.get(path).headers["ETag"] == etag
    create(world, "shop", "other")
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_each_form_has_an_etag_of_its_own(client: FlaskClient) -> None:
    forms = ("application/json", "application/yaml", PARTIAL.replace("List", ""))
    etags = {get(client, "namespaces/shop/imagestreams/web", form).headers["ETag"] for form in forms}
    assert len(etags) == len(forms)


def test_a_write_has_no_etag(client: FlaskClient) -> None:
    answer = client.patch(f"{GROUP}/namespaces/shop/imagestreams/none", json={}, headers={"If-None-Match": "*"})
    assert "ETag" not in answer.headers


# --- compressed answers


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("", False), ("gzip;q=0", False), ("br", False)],
)
def test_a_long_answer_is_compressed_for_those_who_can_read_it(
    world: World, client: FlaskClient, accepted: str, *, packed: bool
) -> None:
    update(world, "shop", "web", annotations={"long": "x" * WORTH_COMPRESSING})
    for path in ("imagestreams", "namespaces/shop/imagestreams/web"):
        plain = client.get(f"{GROUP}/{path}")
        for _ in range(2):
            answer = client.get(f"{GROUP}/{path}", headers={"Accept-Encoding": accepted})
            assert (answer.headers.get("Content-Encoding") == "gzip") is packed
            assert (gzip.decompress(answer.data) if packed else answer.data) == plain.data
            assert (answer.headers["ETag"], answer.headers["Vary"]) == (plain.headers["ETag"], plain.headers["Vary"])
            assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_a_compressed_list_tells_how_far_the_log_has_come(world: World, client: FlaskClient) -> None:
    update(world, "shop", "web", annotations={"long": "x" * WORTH_COMPRESSING})
    path, accepted = f"{GROUP}/namespaces/shop/imagestreams", {"Accept-Encoding": "gzip"}
    client.get(path, headers=accepted)
    head = create(world, "tools", "other")
    answer = client.get(path, headers=accepted)
    assert f'"resourceVersion":"{head}"'.encode() in gzip.decompress(answer.data)


# --- who gets them


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """`guarded(**settings)` is the API with tokens: root may do everything, nobody else anything."""
    (tmp_path / "tokens").write_text('root-token,root,,"system:masters"\nother-token,other,\n')
    apps = []

    def start(**settings: Any) -> FlaskClient:
        common = {"data_dir": tmp_path / "data", "import_controller": "off", "token_auth_file": tmp_path / "tokens"}
        apps.append(create_app(Settings(**common | settings)))
        client = apps[-1].test_client()
        body = {"metadata": {"name": "web"}}
        made = client.post(f"{GROUP}/namespaces/team/imagestreams", json=body, headers=bearer("root"))
        assert made.status_code == 201
        return client

    yield start
    for app in apps:
        app.extensions["imagestream"].close()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}-token"}


def test_a_kept_answer_is_for_those_alone_who_may_read_it(guarded: Callable[..., FlaskClient]) -> None:
    client, path = guarded(access_log="off"), f"{GROUP}/namespaces/team/imagestreams/web"
    for headers, code in [
        (bearer("root"), 200),
        (bearer("other"), 403),
        (bearer("unknown"), 401),
        ({}, 401),
        (bearer("root") | {"Impersonate-User": "other"}, 403),
        (bearer("other") | {"Impersonate-User": "root"}, 403),
        (bearer("root") | {"Sec-Fetch-Site": "cross-site"}, 200),
        (bearer("root"), 200),
    ]:
        assert client.get(path, headers=headers).status_code == code, headers


def test_a_kept_answer_counts_against_the_limit_of_its_reader(guarded: Callable[..., FlaskClient]) -> None:
    client = guarded(access_log="off", user_requests_per_second=3)
    path = f"{GROUP}/namespaces/team/imagestreams/web"
    codes = [client.get(path, headers=bearer("root")).status_code for _ in range(20)]
    assert codes[0] == 200
    assert 429 in codes


def test_a_kept_answer_is_logged_and_counted_as_any(
    guarded: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    monkeypatch.setattr("api.to_stderr", pieces.append)
    client = guarded()
    ids = []
    for path in ("imagestreams/web", "imagestreams/web", "imagestreams", "imagestreams"):
        answer = client.get(f"{GROUP}/namespaces/team/{path}", headers=bearer("root"))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        ids.append(answer.headers["Audit-Id"])
    metrics = client.get("/metrics", headers=bearer("root")).text
    client.application.extensions["imagestream"].close()  # writes the log out
    lines = b"".join(pieces).decode().splitlines()[1:-1]
    told = [dict(pair.split("=", 1) for pair in line.split()) for line in lines]
    assert [one.pop("audit_id") for one in told] == ids
    assert len(set(ids)) == 4
    for one in told:
        del one["time"], one["seconds"]
    assert told[0] == told[1] | {"name": "web", "verb": "get", "user": "root", "namespace": "team"}
    assert told[2] == told[3]
    assert told[3]["verb"] == "list"
    assert 'imagestream_requests_total{code="200",resource="imagestreams",verb="get"} 2.0' in metrics


# --- many at once


def test_what_many_ask_for_after_a_change_is_made_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.shortcut.PATIENCE", 60)
    path = "namespaces/shop/imagestreams/web"
    get(client_of(world), path)
    update(world, "shop", "web", labels={"x": "1"})
    asked, all_there, one = [], threading.Barrier(8), world.drawings.one

    def slow(*args: Any) -> Drawing | None:
        asked.append(args)
        time.sleep(0.1)
        return one(*args)

    monkeypatch.setattr(world.drawings, "one", slow)
    found: list[bytes] = []

    def read() -> None:
        all_there.wait()
        found.append(get(client_of(world), path).data)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len(found) == 8
    assert set(found) == {get(client_of(world), path).data}
    assert b'"x":"1"' in found[0]


def test_nobody_reads_what_was_before_what_somebody_has_seen(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "data", import_controller="off", access_log="off"))
    path = f"{GROUP}/namespaces/team/imagestreams"
    client = app.test_client()
    assert client.post(path, json={"metadata": {"name": "web"}}).status_code == 201
    seen, lock, wrong = [0], threading.Lock(), list[tuple[int, int]]()

    def note(answer: TestResponse, at_least: int) -> None:
        body: Any = answer.json
        if answer.status_code == 409:  # too often the other writer was faster
            return
        metadata = body["items"][0]["metadata"] if "items" in body else body["metadata"]
        position = int(metadata["resourceVersion"])
        with lock:
            seen[0] = max(seen[0], position)
            if position < at_least:
                wrong.append((position, at_least))

    def write() -> None:
        client = app.test_client()
        for number in range(150):
            before = seen[0]
            patch = {"metadata": {"labels": {"n": str(number)}}}
            note(client.patch(f"{path}/web", json=patch, content_type="application/merge-patch+json"), before)

    def read(where: str) -> None:
        client = app.test_client()
        while any(writer.is_alive() for writer in writers):
            before = seen[0]
            note(client.get(where), before)

    writers = [threading.Thread(target=write) for _ in range(2)]
    readers = [threading.Thread(target=read, args=(where,)) for where in [path, f"{path}/web"] * 2]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join()
    app.extensions["imagestream"].close()
    assert wrong == []
    assert seen[0] > 100


def test_nobody_waits_for_ever_for_who_makes_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.shortcut.PATIENCE", 0.01)
    client, path = client_of(world), "namespaces/shop/imagestreams/web"
    push(world, "shop", "web", "v1")
    get(client, path)
    push(world, "shop", "web", "v2")
    begun, over, one = threading.Event(), threading.Event(), world.drawings.one

    def hang(*about: Any) -> Drawing | None:
        monkeypatch.setattr(world.drawings, "one", one)
        begun.set()
        over.wait(60)
        return one(*about)

    monkeypatch.setattr(world.drawings, "one", hang)
    first = threading.Thread(target=lambda: get(client_of(world), path))
    first.start()
    assert begun.wait(60)
    try:
        assert get(client, path).status_code == 200
        assert first.is_alive()
    finally:
        over.set()
        first.join()


def test_what_another_process_wrote_is_seen_at_once(postgres_url: str, tmp_path: Path) -> None:
    apps = [
        create_app(Settings(database_url=postgres_url, data_dir=tmp_path, import_controller="off", access_log="off"))
        for _ in range(2)
    ]
    here, there = (app.test_client() for app in apps)
    path = f"{GROUP}/namespaces/team/imagestreams"
    assert here.post(path, json={"metadata": {"name": "web"}}).status_code == 201
    for number in range(5):
        for where in (path, f"{path}/web", f"{GROUP}/namespaces/other/imagestreams"):
            assert there.get(where).data == there.get(where).data
        patch = {"metadata": {"labels": {"n": str(number)}}}
        written = here.patch(f"{path}/web", json=patch, content_type="application/merge-patch+json")
        assert there.get(f"{path}/web").json == written.json == here.get(f"{path}/web").json
        assert there.get(path).json == here.get(path).json
        version = (there.get(f"{GROUP}/namespaces/other/imagestreams").json or {})["metadata"]["resourceVersion"]
        assert version == (written.json or {})["metadata"]["resourceVersion"]
    for app in apps:
        app.extensions["imagestream"].close()
