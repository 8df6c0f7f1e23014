"""Lists and single reads: what their parameters mean, at which position they are read, in which pages they come."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from histories import IMAGES, Step, World, a_world, histories, raw, thoroughly
from hypothesis import given, settings
from hypothesis import strategies as st
from image_api import BASE, PARTIAL, TABLE, body, client_of, create, delete, get, listed, names, push, refused, update
from werkzeug.test import TestResponse

from api import listing
from imagestream_es.application.commands import NOTHING_EXPECTED, TagWrite
from imagestream_es.domain.tags import TagReference

LISTED = ("imagestreams", "images", "imagestreamtags", "imagetags")


@pytest.fixture
def world() -> Iterator[World]:
    """A world with the streams shop/web and tools/web, at positions 2 and 3."""
    with a_world() as world:
        yield world


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world)


# --- which position is read


@pytest.mark.parametrize("query", [{}, {"version": 0}, {"version": ""}, {"version": 0, "limit": 9}])
def test_without_a_version_or_with_0_the_newest_is_listed(world: World, client: FlaskClient, query: Any) -> None:
    newest = create(world, "shop", "new")
    found = listed(client, "imagestreams", **query)
    assert names(found) == ["shop/new", "shop/web", "tools/web"]
    assert found["metadata"] == {"resourceVersion": str(newest)}
    assert (found["kind"], found["apiVersion"]) == ("ImageStreamList", "image.openshift.io/v1")


@pytest.mark.parametrize("path", [*LISTED, "namespaces/nowhere/imagestreams", "/api/v1/namespaces"])
def test_a_list_has_the_position_of_the_newest_event_whatever_that_was_about(
    world: World, client: FlaskClient, path: str
) -> None:
    world.commands.create_image(world.caller(None), IMAGES[1], raw({"dockerImageReference": "r"}))
    assert listed(client, path)["metadata"]["resourceVersion"] == "4"
    create(world, "shop", "other")
    assert listed(client, path)["metadata"]["resourceVersion"] == "5"


@pytest.mark.parametrize("query", [{}, {"match": "NotOlderThan"}, {"match": "NotOlderThan", "limit": 9}])
def test_a_version_that_is_there_allows_newer_answers(world: World, client: FlaskClient, query: Any) -> None:
    newest = create(world, "shop", "new")
    found = listed(client, "imagestreams", version=2, **query)
    assert names(found) == ["shop/new", "shop/web", "tools/web"]
    assert found["metadata"]["resourceVersion"] == str(newest)


@pytest.mark.parametrize("query", [{"limit": 9}, {"match": "Exact"}, {"match": "Exact", "limit": 9}])
def test_with_exact_or_a_limit_the_version_itself_is_listed(world: World, client: FlaskClient, query: Any) -> None:
    create(world, "shop", "new")
    assert names(listed(client, "imagestreams", version=1, **query)) == []
    found = listed(client, "imagestreams", version=2, **query)
    assert names(found) == ["shop/web"]
    assert found["metadata"] == {"resourceVersion": "2"}


@pytest.mark.parametrize(
    ("query", "reason", "field"),
    [
        ({"version": 0, "match": "Exact"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "Exact"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "NotOlderThan"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "NotOlderThan", "version": ""}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "Exact", "version": 2, "continue": "token"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "NotOlderThan", "continue": "token"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "exact", "version": 2}, "FieldValueNotSupported", "resourceVersionMatch"),
        ({"match": "Newest", "version": 2}, "FieldValueNotSupported", "resourceVersionMatch"),
        ({"sendInitialEvents": "true"}, "FieldValueForbidden", "sendInitialEvents"),
        ({"sendInitialEvents": "false"}, "FieldValueForbidden", "sendInitialEvents"),
        (
            {"sendInitialEvents": "true", "match": "NotOlderThan", "version": 2},
            "FieldValueForbidden",
            "sendInitialEvents",
        ),
    ],
)
@pytest.mark.parametrize("path", ["imagestreams", "images", "namespaces/shop/imagetags", "/oapi/v1/imagestreamtags"])
def test_options_that_break_the_rules_are_invalid(
    client: FlaskClient, path: str, query: Any, reason: str, field: str
) -> None:
    status = refused(get(client, path, **query), 422, "Invalid")
    assert status["message"].startswith(f'ListOptions.meta.k8s.io "" is invalid: {field}: ')
    assert (status["details"]["group"], status["details"]["kind"]) == ("meta.k8s.io", "ListOptions")
    assert [(cause["reason"], cause["field"]) for cause in status["details"]["causes"]] == [(reason, field)]


@pytest.mark.parametrize("version", ["x", "-1", "1.5", "+1", " 1", "0x1", "٣", "1" * 20])
@pytest.mark.parametrize("query", [{}, {"limit": 2}, {"match": "Exact"}, {"match": "NotOlderThan"}])
def test_a_version_that_is_no_number_is_a_bad_request(client: FlaskClient, version: str, query: Any) -> None:
    refused(get(client, "imagestreams", version=version, **query), 400, "BadRequest")
    refused(get(client, "namespaces/shop/imagestreams/web", version=version, **query), 400, "BadRequest")


@pytest.mark.parametrize("limit", ["x", "--5", "-", "1e3", "5-", "1.5", "٣", "9" * 20])
def test_a_limit_that_is_no_number_is_a_bad_request(client: FlaskClient, limit: str) -> None:
    refused(get(client, "imagestreams", limit=limit), 400, "BadRequest")


@pytest.mark.parametrize("limit", ["", "0", "-5"])
def test_a_limit_of_nothing_is_none(client: FlaskClient, limit: str) -> None:
    assert names(listed(client, "imagestreams", limit=limit)) == ["shop/web", "tools/web"]


# --- versions that lie ahead

READS = [
    ("imagestreams", {}),
    ("images", {"match": "NotOlderThan"}),
    ("namespaces/shop/imagestreamtags", {"match": "Exact"}),
    ("imagetags", {"limit": 1}),
    ("namespaces/shop/imagestreams/web", {}),
    ("namespaces/shop/imagestreams/web", {"match": "Exact"}),
    (f"images/{IMAGES[0]}", {}),
]


@pytest.mark.parametrize(("path", "query"), READS)
@pytest.mark.parametrize("version", [6, 10**18 * 9, 10**19 - 1])
def test_a_version_that_does_not_come_is_a_timeout(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, query: Any, version: int
) -> None:
    monkeypatch.setattr(listing, "WAIT", 0.02)
    push(world, "shop", "web", "v1")
    answer = get(client, path, version=version, **query)
    status = refused(answer, 504, "Timeout")
    assert status["message"] == f"Too large resource version: {version}, current: 5"
    assert status["details"]["retryAfterSeconds"] == 1
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("path", "query"), READS)
def test_a_version_that_comes_soon_is_waited_for(world: World, client: FlaskClient, path: str, query: Any) -> None:
    push(world, "shop", "web", "v1")
    answers: list[TestResponse] = []
    asking = threading.Thread(target=lambda: answers.append(get(client, path, version=6, **query)))
    asking.start()
    time.sleep(0.05)
    assert not answers
    push(world, "shop", "web", "v2")
    asking.join()
    assert answers[0].status_code == 200
    assert int(body(answers[0])["metadata"]["resourceVersion"]) <= 6


# --- pages


def pages(client: FlaskClient, path: str, between: Callable[[], object] = lambda: None, **query: Any) -> list[Any]:
    """All pages of a list; `between` happens before each of them but the first."""
    found = [listed(client, path, **query)]
    while "continue" in found[-1]["metadata"]:
        between()
        more = {"continue": found[-1]["metadata"]["continue"], "limit": query["limit"]}
        selectors = {name: value for name, value in query.items() if name.endswith("Selector")}
        found.append(listed(client, path, **more, **selectors))
    return found


@pytest.mark.parametrize("path", LISTED)
def test_pages_are_one_snapshot_while_writes_go_on(world: World, client: FlaskClient, path: str) -> None:
    for number in range(7):
        create(world, "shop", f"s{number}")
        push(world, "shop", f"s{number}", "v1", f"sha256:{number:064}", dockerImageMetadata={"Id": "x"})
    at = world.queries.position()
    numbers = iter(range(7))

    def write() -> None:
        number = next(numbers)
        push(world, "shop", f"s{number}", "v2", f"sha256:{number + 100:064}")
        delete(world, "shop", f"s{6 - number}")
        world.commands.delete_image(world.caller(None), f"sha256:{6 - number:064}", NOTHING_EXPECTED)
        create(world, "shop", f"r{number}")

    parts = pages(client, path, write, limit=2)
    whole = listed(client, path, version=at, match="Exact")
    assert [item for part in parts for item in part["items"]] == whole["items"]
    assert {part["metadata"]["resourceVersion"] for part in parts} == {str(at)}
    count = len(whole["items"])
    assert count >= 7
    rest = [part["metadata"].get("remainingItemCount") for part in parts]
    assert rest == [count - seen for seen in range(2, count, 2)] + [None]


def test_pages_of_an_old_version_are_of_that_version(world: World, client: FlaskClient) -> None:
    for name in "abc":
        create(world, "shop", name)
    delete(world, "shop", "b")
    delete(world, "shop", "a")
    parts = pages(client, "namespaces/shop/imagestreams", version=6, limit=1)
    assert [names(part) for part in parts] == [["shop/a"], ["shop/b"], ["shop/c"], ["shop/web"]]
    assert {part["metadata"]["resourceVersion"] for part in parts} == {"6"}


def test_with_selectors_nobody_counts_what_remains(world: World, client: FlaskClient) -> None:
    for name in "abcd":
        create(world, "shop", name, labels={"tier": "front"})
    query: Any = {"labelSelector": "tier=front", "limit": 2}
    parts = pages(client, "imagestreams", **query)
    assert [names(part) for part in parts] == [["shop/a", "shop/b"], ["shop/c", "shop/d"]]
    assert parts[0]["metadata"].keys() == {"resourceVersion", "continue"}
    assert listed(client, "imagestreams", fieldSelector="metadata.namespace=shop", limit=1)["metadata"].keys() == {
        "resourceVersion",
        "continue",
    }


def test_the_last_page_may_be_asked_for_whole(client: FlaskClient) -> None:
    first = listed(client, "imagestreams", limit=1)
    rest = listed(client, "imagestreams", **{"continue": first["metadata"]["continue"]})
    assert (names(first), names(rest)) == (["shop/web"], ["tools/web"])
    assert rest["metadata"] == {"resourceVersion": "3"}


def test_a_page_that_just_fits_is_the_last(client: FlaskClient) -> None:
    assert listed(client, "imagestreams", limit=2)["metadata"] == {"resourceVersion": "3"}


def token_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "!!!!",
        "ünï",
        "a b",
        "====",
        token_of([]),
        token_of({"at": 3, "namespace": "shop", "name": "web"}),
        token_of([3, "shop"]),
        token_of([3, "shop", "web", "more"]),
        token_of(["3", "shop", "web"]),
        token_of([3.0, "shop", "web"]),
        token_of([True, "shop", "web"]),
        token_of([0, "shop", "web"]),
        token_of([-3, "shop", "web"]),
        token_of([10**30, "shop", "web"]),
        token_of([3, None, "web"]),
        token_of([3, "shop", 5]),
        token_of(3),
        token_of(None),
    ],
)
def test_a_token_that_nobody_gave_is_a_bad_request(client: FlaskClient, token: str) -> None:
    refused(get(client, "imagestreams", **{"continue": token}), 400, "BadRequest")


def test_no_token_is_an_internal_error(client: FlaskClient) -> None:
    @given(st.text(max_size=60))
    @settings(deadline=None)
    def check(token: str) -> None:
        assert get(client, "imagestreams", **{"continue": token}).status_code == (400 if token else 200)

    check()


def test_a_token_of_a_log_that_went_further_is_a_timeout(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WAIT", 0.02)
    for at in (4, 2**63, 2**64 - 1):
        refused(get(client, "imagestreams", **{"continue": token_of([at, "shop", "web"])}), 504, "Timeout")


def test_a_token_goes_with_no_version_but_0(client: FlaskClient) -> None:
    token = listed(client, "imagestreams", limit=1)["metadata"]["continue"]
    refused(get(client, "imagestreams", version=3, **{"continue": token}), 400, "BadRequest")
    refused(get(client, "imagestreams", version="x", **{"continue": token}), 400, "BadRequest")
    for version in ("", "0"):
        assert names(listed(client, "imagestreams", version=version, **{"continue": token})) == ["tools/web"]


def test_a_token_fits_into_a_url(client: FlaskClient) -> None:
    token = listed(client, "imagestreams", limit=1)["metadata"]["continue"]
    answer = client.get(f"{BASE}/imagestreams?continue={token}")
    assert names(body(answer)) == ["tools/web"]


# --- order

odd_names = st.text("a.-0", max_size=3).map(lambda text: f"a{text}0")


@given(
    st.sets(st.tuples(st.sampled_from(["a", "a-b", "a0"]), odd_names, st.sampled_from(["v", "v-1", "v0"])), max_size=7),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=50)
def test_lists_are_in_the_order_of_namespace_and_name_and_pages_lose_nothing(
    tags: set[tuple[str, str, str]], limit: int
) -> None:
    with a_world() as world:
        client = client_of(world)
        for namespace, name, tag in tags:
            write = TagWrite(tag=TagReference(name=tag))
            world.commands.put_tag(world.caller(None), namespace, name, tag, write, "imagestreamtags")
            push(world, namespace, name, tag)
        for path in LISTED:
            whole = listed(client, path)["items"]
            order = [(item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in whole]
            assert order == sorted(set(order))
            assert [item for part in pages(client, path, limit=limit) for item in part["items"]] == whole
        assert {name for _, name in order} == {f"{name}:{tag}" for _, name, tag in tags}


# --- selectors


@pytest.fixture
def labelled(world: World) -> None:
    """shop/front and tools/back have labels, tags and images; shop/far is somewhere else."""
    create(world, "shop", "front", labels={"tier": "front", "app": "web"})
    create(world, "tools", "back", labels={"tier": "back", "app": "web"})
    create(world, "shop", "far", source_repository="quay.io/team/far")
    front, back = {"labels": {"tier": "front", "app": "web"}}, {"labels": {"tier": "back", "app": "web"}}
    push(world, "shop", "front", "v1", "sha256:" + "1" * 64, metadata=front)
    push(world, "tools", "back", "v1", "sha256:" + "2" * 64, metadata=back)
    push(world, "shop", "far", "v1", "sha256:" + "3" * 64)


SHORT = {
    "shop/front": "front",
    "shop/front:v1": "front",
    "sha256:" + "1" * 64: "front",
    "tools/back": "back",
    "tools/back:v1": "back",
    "sha256:" + "2" * 64: "back",
    "shop/far": "far",
    "shop/far:v1": "far",
    "sha256:" + "3" * 64: "far",
}


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("tier=front", {"front"}),
        ("tier==front", {"front"}),
        ("tier!=front", {"back", "far"}),
        ("tier in (front, back)", {"front", "back"}),
        ("tier notin (front)", {"back", "far"}),
        ("tier", {"front", "back"}),
        ("!tier", {"far"}),
        ("app=web,tier=back", {"back"}),
        ("app=web,tier=none", set()),
        ("", {"front", "back", "far"}),
    ],
)
@pytest.mark.parametrize("path", LISTED)
def test_labels_select_in_every_list(client: FlaskClient, path: str, selector: str, chosen: set[str]) -> None:
    found = names(listed(client, path, labelSelector=selector))
    assert {SHORT[name] for name in found if name in SHORT} == chosen


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("path", "selector", "chosen"),
    [
        ("imagestreams", "metadata.name=front", ["shop/front"]),
        ("imagestreams", "metadata.namespace=tools", ["tools/back", "tools/web"]),
        ("imagestreams", "metadata.namespace!=tools,metadata.name!=web", ["shop/far", "shop/front"]),
        ("imagestreams", "metadata.name=front,metadata.name=back", []),
        ("imagestreams", "spec.dockerImageRepository=quay.io/team/far", ["shop/far"]),
        ("imagestreams", "status.dockerImageRepository=registry:5000/tools/web", ["tools/web"]),
        ("namespaces/shop/imagestreams", "metadata.namespace=tools", []),
        ("imagestreamtags", "metadata.name=front:v1", ["shop/front:v1"]),
        ("imagestreamtags", "metadata.namespace=tools", ["tools/back:v1"]),
        ("imagetags", "metadata.name==front:v1", ["shop/front:v1"]),
        ("imagetags", "metadata.namespace!=tools", ["shop/far:v1", "shop/front:v1"]),
        ("images", "metadata.name=sha256:" + "2" * 64, ["sha256:" + "2" * 64]),
        ("images", "metadata.namespace=shop", []),
        ("/api/v1/namespaces", "metadata.name=tools", ["tools"]),
    ],
)
def test_fields_select_in_every_list(client: FlaskClient, path: str, selector: str, chosen: list[str]) -> None:
    assert names(listed(client, path, fieldSelector=selector)) == chosen


@pytest.mark.usefixtures("labelled")
def test_selectors_see_what_was_there_at_the_version_that_is_listed(world: World, client: FlaskClient) -> None:
    at = world.queries.position()
    update(world, "shop", "front", labels={"tier": "back"})
    for path, before in (("imagestreams", ["shop/front"]), ("imagestreamtags", ["shop/front:v1"])):
        assert names(listed(client, path, labelSelector="tier=front", version=at, match="Exact")) == before
        assert names(listed(client, path, labelSelector="tier=front")) == []


@pytest.mark.parametrize("path", [*LISTED, "namespaces/shop/imagestreams"])
def test_selectors_that_cannot_be_read_are_bad_requests(client: FlaskClient, path: str) -> None:
    status = refused(get(client, path, fieldSelector="status.phase=Running"), 400, "BadRequest")
    assert status["message"] == "field label not supported: status.phase"
    status = refused(get(client, path, labelSelector="a b"), 400, "BadRequest")
    assert status["message"].startswith("unable to parse requirement: ")
    refused(get(client, path, fieldSelector="metadata.name"), 400, "BadRequest")


@pytest.mark.parametrize("path", ["images", "imagestreamtags", "imagetags"])
def test_only_streams_are_selected_by_their_repositories(client: FlaskClient, path: str) -> None:
    refused(get(client, path, fieldSelector="spec.dockerImageRepository=x"), 400, "BadRequest")


# --- the past


@given(histories)
@settings(thoroughly, max_examples=30)
def test_every_list_at_a_version_is_what_was_listed_when_it_was_the_newest(steps: list[Step]) -> None:
    with a_world() as world:
        client = client_of(world)
        seen = {at: {path: listed(client, path) for path in LISTED} for at in world.live_through(steps)}
        for at, then in seen.items():
            for path, found in then.items():
                assert listed(client, path, version=at, match="Exact") == found


def test_a_deleted_stream_is_listed_where_it_was_and_one_of_the_same_name_later(
    world: World, client: FlaskClient
) -> None:
    push(world, "shop", "web", "v1")
    deleted = delete(world, "shop", "web")
    created = create(world, "shop", "web", labels={"life": "second"})
    path = "namespaces/shop/imagestreams"
    before, between, after = (
        listed(client, path, version=at, match="Exact")["items"] for at in (deleted - 1, deleted, created)
    )
    assert (len(before), between, len(after)) == (1, [], 1)
    assert before[0]["status"]["tags"][0]["tag"] == "v1"
    assert after[0]["metadata"]["labels"] == {"life": "second"}
    assert "tags" not in after[0]["status"]
    assert before[0]["metadata"]["uid"] != after[0]["metadata"]["uid"]
    one = {"fieldSelector": "metadata.name=web", "version": deleted - 1, "match": "Exact"}
    assert listed(client, path, **one)["items"] == before


# --- single reads


def test_one_object_is_answered_as_new_as_was_asked_for(world: World, client: FlaskClient) -> None:
    newest = update(world, "shop", "web", labels={"a": "b"})
    for version in ("", "0", "2", newest):
        one = listed(client, "namespaces/shop/imagestreams/web", version=version)
        assert one["metadata"]["resourceVersion"] == str(newest)


def test_every_object_can_be_read_as_it_was(world: World, client: FlaskClient) -> None:
    first, second = IMAGES[:2]
    write = TagWrite(tag=TagReference(name="v1", annotations={"note": "spec"}))
    world.commands.put_tag(world.caller(None), "shop", "web", "v1", write, "imagetags")
    at = push(world, "shop", "web", "v1", first, dockerImageMetadata={"Id": "one"})
    paths = [
        "namespaces/shop/imagestreams/web",
        "namespaces/shop/imagestreams/web/status",
        "namespaces/shop/imagestreamtags/web:v1",
        "namespaces/shop/imagetags/web:v1",
        f"namespaces/shop/imagestreamimages/web@{first}",
        "namespaces/shop/imagestreamimages/web@aaaa",
        f"images/{first}",
    ]
    before = [listed(client, path) for path in paths]
    push(world, "shop", "web", "v1", second)
    document = raw({"dockerImageReference": "elsewhere"})
    world.commands.update_image(world.caller(None), first, lambda _: document, NOTHING_EXPECTED)
    update(world, "shop", "web", labels={"new": "label"})
    changed = [get(client, path).json for path in paths]
    assert all(then != now for then, now in zip(before, changed, strict=True))
    world.commands.delete_image(world.caller(None), first, NOTHING_EXPECTED)
    delete(world, "shop", "web")
    for path, then in zip(paths, before, strict=True):
        assert get(client, path).status_code == 404
        assert listed(client, path, version=at, match="Exact") == then


def test_what_was_not_there_is_not_found_however_much_is_there_now(world: World, client: FlaskClient) -> None:
    push(world, "shop", "web", "v1")
    for path in (
        "namespaces/tools/imagestreams/web",
        f"images/{IMAGES[0]}",
        "namespaces/shop/imagestreamtags/web:v1",
        "namespaces/shop/imagetags/web:v1",
        f"namespaces/shop/imagestreamimages/web@{IMAGES[0]}",
    ):
        refused(get(client, path, version=2, match="Exact"), 404, "NotFound")
    stream = listed(client, "namespaces/tools/imagestreams/web", version=3, match="Exact")
    assert stream["metadata"]["resourceVersion"] == "3"


def test_one_object_cannot_be_read_exactly_at_0(client: FlaskClient) -> None:
    answer = get(client, "namespaces/shop/imagestreams/web", version=0, match="Exact")
    assert refused(answer, 422, "Invalid")["details"]["causes"][0]["field"] == "resourceVersionMatch"


def test_a_patch_is_of_the_present_whatever_version_its_url_names(world: World, client: FlaskClient) -> None:
    update(world, "shop", "web", labels={"a": "b"})
    answer = client.patch(
        f"{BASE}/namespaces/shop/imagestreams/web?resourceVersion=2&resourceVersionMatch=Exact",
        data=json.dumps({"metadata": {"labels": {"c": "d"}}}),
        content_type="application/merge-patch+json",
    )
    assert answer.status_code == 200, answer.text
    assert body(answer)["metadata"]["labels"] == {"a": "b", "c": "d"}


# --- forms


def test_pages_of_a_table_have_the_metadata_of_the_list(world: World, client: FlaskClient) -> None:
    create(world, "shop", "next")
    first = listed(client, "imagestreams", accept=TABLE, limit=2)
    assert (first["kind"], first["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert first["metadata"].keys() == {"resourceVersion", "continue", "remainingItemCount"}
    assert (first["metadata"]["resourceVersion"], first["metadata"]["remainingItemCount"]) == ("4", 1)
    create(world, "tools", "later")
    rest = listed(client, "imagestreams", accept=TABLE, **{"continue": first["metadata"]["continue"]})
    assert rest["metadata"] == {"resourceVersion": "4"}
    cells = [row["cells"][0] for page in (first, rest) for row in page["rows"]]
    objects = [row["object"]["metadata"]["namespace"] for page in (first, rest) for row in page["rows"]]
    assert list(zip(objects, cells, strict=True)) == [("shop", "next"), ("shop", "web"), ("tools", "web")]


def test_the_past_comes_as_a_table_too(world: World, client: FlaskClient) -> None:
    push(world, "shop", "web", "v1")
    for version, tags in ((3, ""), (5, "v1")):
        found = listed(client, "namespaces/shop/imagestreams", accept=TABLE, version=version, match="Exact")
        assert found["metadata"] == {"resourceVersion": str(version)}
        assert [row["cells"][2] for row in found["rows"]] == [tags]


def test_pages_of_partial_objects_have_the_metadata_of_the_list(client: FlaskClient) -> None:
    first = listed(client, "imagestreams", accept=PARTIAL, limit=1)
    rest = listed(client, "imagestreams", accept=PARTIAL, **{"continue": first["metadata"]["continue"]})
    for page in (first, rest):
        assert (page["kind"], page["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
        assert page["metadata"]["resourceVersion"] == "3"
        (item,) = page["items"]
        assert item.keys() == {"kind", "apiVersion", "metadata"}
        assert item["kind"] == "PartialObjectMetadata"
    assert names(first) + names(rest) == ["shop/web", "tools/web"]
    assert first["metadata"]["remainingItemCount"] == 1
