"""Writes that are bound to the image that a tag names, and the reasons of changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from imagestream_es.domain.events import DomainEvent
from imagestream_es.persistence.event_mapper import EventMapper

SPACE = "/apis/image.openshift.io/v1/namespaces/shop"
STREAM, TAG, IMAGE_TAG = (
    f"{SPACE}/{path}" for path in ("imagestreams/web", "imagestreamtags/web:a", "imagetags/web:a")
)
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
MERGE = "application/merge-patch+json"
Headers = Mapping[str, str]


def log(client: FlaskClient) -> list[DomainEvent]:
    """Every event."""
    queries = client.application.extensions["imagestream"].queries
    mapper = EventMapper()
    found: list[DomainEvent] = queries.reading(
        lambda rows: [mapper.decode(stored.topic, stored.state) for _, stored in rows.log(0, rows.head())]
    )
    return found


def push(client: FlaskClient, tag: str, image: str, headers: Headers | None = None, **meta: Any) -> TestResponse:
    reference = f"registry.example.com/shop/web@{image}"
    body = {
        "metadata": {"name": "web", **meta},
        "tag": tag,
        "image": {"metadata": {"name": image}, "dockerImageReference": reference},
    }
    return client.post(f"{SPACE}/imagestreammappings", json=body, headers=headers)


def quoted(image: str) -> dict[str, str]:
    return {"If-Match": f'"{image}"'}


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    """A stream whose tag `a` names A and whose tag `b` names B."""
    assert client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}).status_code == 201
    assert push(client, "a", A).status_code == 201
    assert push(client, "b", B).status_code == 201
    return client


def source(image: str) -> dict[str, Any]:
    return {"from": {"kind": "ImageStreamImage", "name": f"web@{image}"}}


WRITES: dict[str, Callable[[FlaskClient, Headers], TestResponse]] = {
    "mapping": lambda client, headers: push(client, "a", C, headers),
    "istag put": lambda client, headers: client.put(
        TAG, json={"metadata": {"name": "web:a"}, "tag": source(B)}, headers=headers
    ),
    "istag patch": lambda client, headers: client.patch(
        TAG, json={"tag": source(B)}, content_type=MERGE, headers=headers
    ),
    "istag post": lambda client, headers: client.post(
        f"{SPACE}/imagestreamtags", json={"metadata": {"name": "web:a"}, "tag": source(B)}, headers=headers
    ),
    "istag delete": lambda client, headers: client.delete(TAG, headers=headers),
    "itag patch": lambda client, headers: client.patch(
        IMAGE_TAG, json={"spec": source(B)}, content_type=MERGE, headers=headers
    ),
    "itag post": lambda client, headers: client.post(
        f"{SPACE}/imagetags", json={"metadata": {"name": "web:a"}, "spec": source(B)}, headers=headers
    ),
    "itag delete": lambda client, headers: client.delete(IMAGE_TAG, headers=headers),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_is_refused_when_the_tag_moved_and_the_answer_names_its_image(
    web: FlaskClient, write: Callable[[FlaskClient, Headers], TestResponse]
) -> None:
    before = len(log(web))
    answer = write(web, quoted(C))
    assert (answer.status_code, answer.json["reason"], answer.json["code"]) == (412, "PreconditionFailed", 412)
    assert A in answer.json["message"]
    assert len(log(web)) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_goes_through_while_the_tag_names_the_image(
    web: FlaskClient, write: Callable[[FlaskClient, Headers], TestResponse]
) -> None:
    before = len(log(web))
    assert write(web, quoted(A)).status_code in (200, 201)
    assert len(log(web)) > before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_for_tags_without_an_image_is_refused_where_there_is_one(
    web: FlaskClient, write: Callable[[FlaskClient, Headers], TestResponse]
) -> None:
    before = len(log(web))
    assert write(web, {"If-None-Match": "*"}).status_code == 412
    assert len(log(web)) == before


def test_a_tag_without_an_image_can_be_claimed_once(web: FlaskClient) -> None:
    assert push(web, "new", A, {"If-None-Match": "*"}).status_code == 201
    assert push(web, "new", B, {"If-None-Match": "*"}).status_code == 412


def test_a_tag_that_is_not_there_names_no_image(web: FlaskClient) -> None:
    answer = push(web, "new", A, quoted(A))
    assert answer.status_code == 412
    assert "no image" in answer.json["message"]


def test_any_image_and_one_of_several_can_be_asked_for(web: FlaskClient) -> None:
    assert push(web, "new", A, {"If-Match": "*"}).status_code == 412
    assert push(web, "a", B, {"If-Match": "*"}).status_code == 201
    assert push(web, "a", C, {"If-Match": f'"{A}", "{B}"'}).status_code == 201


def test_what_happens_to_other_tags_is_no_matter(web: FlaskClient) -> None:
    assert push(web, "b", C).status_code == 201
    assert push(web, "a", B, quoted(A)).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "17"},
        {"If-Match": '"17"'},
        {"If-Match": A},
        {"If-Match": f'W/"{A}"'},
        {"If-Match": ""},
        {"If-None-Match": f'"{A}"'},
        {"If-Match": "*", "If-None-Match": "*"},
    ],
)
def test_what_is_no_image_is_refused_as_such(web: FlaskClient, headers: dict[str, str]) -> None:
    before = len(log(web))
    answer = push(web, "a", B, headers)
    assert (answer.status_code, answer.json["reason"]) == (400, "BadRequest")
    assert len(log(web)) == before


def test_elsewhere_the_headers_are_refused_and_not_passed_over(web: FlaskClient) -> None:
    before = len(log(web))
    answer = web.delete(STREAM, headers={"If-Match": '"4"'})
    assert answer.status_code == 400
    assert "resourceVersion" in answer.json["message"]
    noted = {"metadata": {"annotations": {"imagestream-es.io/if-match": A}}}
    assert web.patch(STREAM, json=noted, content_type=MERGE).status_code == 400
    assert len(log(web)) == before
    assert web.get(STREAM, headers={"If-None-Match": '"x"'}).status_code == 200


def test_an_annotation_says_the_same_and_is_not_stored(web: FlaskClient) -> None:
    wrong = {"metadata": {"annotations": {"imagestream-es.io/if-match": C, "kept": "yes"}}, "tag": source(B)}
    assert web.patch(TAG, json=wrong, content_type=MERGE).status_code == 412
    right = {"metadata": {"annotations": {"imagestream-es.io/if-match": A, "kept": "yes"}}, "tag": source(B)}
    answer = web.patch(TAG, json=right, content_type=MERGE)
    assert answer.status_code == 200
    assert answer.json["metadata"]["annotations"] == {"kept": "yes"}
    assert push(web, "a", C, annotations={"imagestream-es.io/if-none-match": "*"}).status_code == 412
    assert push(web, "a", C, annotations={"imagestream-es.io/if-match": B}).status_code == 201


def test_header_and_annotation_may_not_differ(web: FlaskClient) -> None:
    assert push(web, "a", C, quoted(A), annotations={"imagestream-es.io/if-match": B}).status_code == 400
    assert push(web, "a", C, quoted(A), annotations={"imagestream-es.io/if-match": A}).status_code == 201


def test_an_apply_that_changes_nothing_still_asks_for_the_image(web: FlaskClient) -> None:
    body = (
        f"kind: ImageStreamTag\nmetadata: {{name: 'web:a'}}\ntag: {{from: {{kind: ImageStreamImage, name: 'web@{A}'}}}}"
    )
    apply = {"data": body, "content_type": "application/apply-patch+yaml"}
    assert web.patch(f"{TAG}?fieldManager=me", **apply).status_code in (200, 201)
    assert web.patch(f"{TAG}?fieldManager=me", headers=quoted(C), **apply).status_code == 412


# --- reasons


def test_the_reason_of_a_header_stands_in_the_event(web: FlaskClient) -> None:
    assert push(web, "b", A, {"X-Change-Reason": " hotfix 17 "}).status_code == 201
    assert log(web)[-1].by.reason == "hotfix 17"
    assert web.delete(TAG, headers={"X-Change-Reason": "obsolete"}).status_code == 200
    assert log(web)[-1].by.reason == "obsolete"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_reason_may_come_in_both_encodings(web: FlaskClient, encoding: str) -> None:
    told = "zurück".encode(encoding).decode("latin-1")
    assert push(web, "b", A, {"X-Change-Reason": told}).status_code == 201
    assert log(web)[-1].by.reason == "zurück"


@pytest.mark.parametrize("reason", ["x" * 1025, "a\tb", "a\x1bb"])
def test_a_reason_is_short_and_printable(web: FlaskClient, reason: str) -> None:
    before = len(log(web))
    assert push(web, "b", A, {"X-Change-Reason": reason}).status_code == 400
    assert push(web, "b", A, annotations={"kubernetes.io/change-cause": reason}).status_code == 400
    assert len(log(web)) == before


def test_an_annotation_is_the_reason_of_the_write_that_sets_it_alone(web: FlaskClient) -> None:
    def annotate(**annotations: str) -> str:
        assert web.patch(STREAM, json={"metadata": {"annotations": annotations}}, content_type=MERGE).status_code == 200
        return log(web)[-1].by.reason

    cause = "kubernetes.io/change-cause"
    assert annotate(**{cause: "first"}) == "first"
    assert annotate(other="x") == ""
    assert annotate(**{cause: "second"}) == "second"
    shown = web.get(STREAM).json
    shown["metadata"]["labels"] = {"more": "true"}
    assert web.put(STREAM, json=shown).status_code == 200
    assert log(web)[-1].by.reason == ""


def test_the_header_goes_before_the_annotation(web: FlaskClient) -> None:
    push(web, "b", A, {"X-Change-Reason": "header"}, annotations={"kubernetes.io/change-cause": "annotation"})
    assert log(web)[-1].by.reason == "header"
    push(web, "b", B, annotations={"kubernetes.io/change-cause": "annotation"})
    assert log(web)[-1].by.reason == "annotation"
