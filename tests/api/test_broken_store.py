"""A database that fails is no fault of the request: every question is answered 503, and may be asked again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from eventsourcing.persistence import InterfaceError, OperationalError, PersistenceError
from flask.testing import FlaskClient

from api import create_app
from api.groups import GROUPS
from imagestream_es.persistence.store import Rows
from imagestream_es.settings import Settings, Size

IMAGE = f"sha256:{1:064x}"
NAMES = {
    "imagestreamtags": "app:1",
    "imagetags": "app:1",
    "imagestreamimages": f"app@{IMAGE}",
    "images": IMAGE,
    "namespaces": "team",
}


class Failing:
    """A store that fails after so many rows were read in a transaction; None: it does not."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.after: int | None = None
        self.error: PersistenceError = OperationalError("the password is s3cret")
        self.failed = 0

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        if self.after == 0:
            self.fail()
        with self._store.reading() as rows:
            if self.after is not None:
                real, left = rows._cursor, [self.after]
                rows._cursor = _Counting(real, left, self)
            yield rows

    def fail(self) -> None:
        self.failed += 1
        raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Counting:
    def __init__(self, cursor: Any, left: list[int], store: Failing) -> None:
        self._cursor, self._left, self._store = cursor, left, store

    def execute(self, *query: Any) -> Any:
        if query[0] != "ROLLBACK":
            self._left[0] -= 1
            if self._left[0] < 0:
                self._store.fail()
        return self._cursor.execute(*query)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FlaskClient, Failing]]:
    app = create_app(
        Settings(
            data_dir=tmp_path_factory.mktemp("broken") / "data",
            import_controller="off",
            access_log="off",
            answer_memory=Size(0),
        )
    )
    services = app.extensions["imagestream"]
    client = app.test_client()
    space = "/apis/image.openshift.io/v1/namespaces/team"
    body = {"metadata": {"name": "app"}, "image": {"metadata": {"name": IMAGE}}, "tag": "1"}
    assert client.post(f"{space}/imagestreams", json=body).status_code == 201
    assert client.post(f"{space}/imagestreammappings", json=body).status_code == 201
    services.queries._store = store = Failing(services.queries._store)
    yield client, store
    store.after = None
    services.close()


def questions() -> Iterator[str]:
    for door, resources in GROUPS.items():
        for resource in resources:
            space = f"{door.prefix}/namespaces/team" if resource.namespaced else door.prefix
            if resource.find:
                yield f"{space}/{resource.name}"
                yield f"{space}/{resource.name}?resourceVersion=2&resourceVersionMatch=Exact"
            if resource.get:
                one = f"{space}/{resource.name}/{NAMES.get(resource.name, 'app')}"
                yield one
                yield from (f"{one}/{sub}" for sub, found in resource.subresources.items() if found.get)


@pytest.mark.parametrize("error", [OperationalError("the password is s3cret"), InterfaceError("s3cret")])
@pytest.mark.parametrize("path", list(questions()))
def test_every_question_is_answered_503(
    broken: tuple[FlaskClient, Failing], path: str, error: PersistenceError
) -> None:
    client, store = broken
    store.error = error
    for after in range(6):
        store.after, store.failed = after, 0
        answer: Any = client.get(path)
        if not store.failed:
            assert answer.status_code in (200, 400, 404)
            continue
        assert answer.status_code == 503
        assert answer.json["reason"] == "ServiceUnavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert "s3cret" not in answer.get_data(as_text=True)


def test_the_store_was_asked(broken: tuple[FlaskClient, Failing]) -> None:
    client, store = broken
    store.after = 0
    codes = {path: client.get(path).status_code for path in questions()}
    assert sum(code == 503 for code in codes.values()) > len(codes) / 2
    store.after = None
    codes = {path: client.get(path).status_code for path in questions()}
    assert sum(code == 200 for code in codes.values()) > len(codes) / 2


def test_a_watch_ends_with_a_word(broken: tuple[FlaskClient, Failing]) -> None:
    client, store = broken
    store.after = 0
    answer = client.get("/apis/image.openshift.io/v1/namespaces/team/imagestreams?watch=1&timeoutSeconds=60")
    (line,) = answer.data.splitlines()
    event = orjson.loads(line)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 503, "ServiceUnavailable")


def test_a_patch_that_cannot_be_made_is_answered_503(broken: tuple[FlaskClient, Failing]) -> None:
    client, store = broken
    store.after = 0
    path = "/apis/image.openshift.io/v1/namespaces/team/imagestreams/app"
    answer = client.patch(path, json={"spec": {}}, content_type="application/merge-patch+json")
    assert answer.status_code == 503
