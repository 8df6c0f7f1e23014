"""tagchanges: one object for each change of a tag, for ever."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from histories import a_world
from image_api import client_of
from image_api import push as push_to

from imagestream_es.application.history import History

IMAGES = "/apis/image.openshift.io/v1/namespaces"
HISTORY = "/apis/history.imagestream-es.io/v1"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def sent(client: FlaskClient, method: str, path: str, body: dict[str, Any] | None = None, **named: Any) -> Any:
    answer = client.open(f"{IMAGES}/{path}", method=method, json=body, **named)
    assert answer.status_code < 300, answer.text
    return answer.json


def push(client: FlaskClient, tag: str, image: str, space: str = "shop", stream: str = "web") -> None:
    body = {"metadata": {"name": stream}, "tag": tag, "image": {"metadata": {"name": image}}}
    sent(client, "POST", f"{space}/imagestreammappings", body)


def create(client: FlaskClient, space: str = "shop", stream: str = "web", **spec: Any) -> None:
    sent(client, "POST", f"{space}/imagestreams", {"metadata": {"name": stream}, "spec": spec})


def asked(client: FlaskClient, query: str = "", space: str = "/namespaces/shop") -> Any:
    answer = client.get(f"{HISTORY}{space}/tagchanges?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def told(client: FlaskClient, query: str = "order=oldest") -> list[tuple[Any, ...]]:
    """Tag, action and the letters of the images before and afterwards, of each change."""
    return [
        (item["tag"], item["action"], *(item.get(end, {}).get("image", "")[7:8] for end in ("from", "to")))
        for item in asked(client, query)["items"]
    ]


def selecting(**fields: str) -> str:
    return "fieldSelector=" + quote(",".join(f"{name}={value}" for name, value in fields.items()))


@pytest.fixture
def lived(client: FlaskClient) -> FlaskClient:
    """A stream whose tag was pushed to, followed, reverted, and that was deleted and began again."""
    create(client, tags=[{"name": "prod", "from": {"kind": "ImageStreamTag", "name": "latest"}}])
    push(client, "latest", A)
    push(client, "latest", B)
    push(client, "latest", A)
    sent(client, "DELETE", "shop/imagestreams/web")
    create(client)
    push(client, "latest", C)
    return client


EVERYTHING = [
    ("prod", "SpecSet", "", ""),
    ("latest", "Created", "", "a"),
    ("prod", "Followed", "", "a"),
    ("latest", "Moved", "a", "b"),
    ("prod", "Followed", "a", "b"),
    ("latest", "Reverted", "b", "a"),
    ("prod", "Followed", "b", "a"),
    ("latest", "Deleted", "a", ""),
    ("prod", "Deleted", "a", ""),
    ("latest", "Created", "", "c"),
]


def test_each_change_is_told_once_across_deletion_and_re_creation(lived: FlaskClient) -> None:
    assert told(lived) == EVERYTHING


def test_the_newest_is_first_unless_the_oldest_are_asked_for(lived: FlaskClient) -> None:
    assert told(lived, "") == told(lived, "order=newest") == EVERYTHING[::-1]
    answer = lived.get(f"{HISTORY}/namespaces/shop/tagchanges?order=up")
    assert (answer.status_code, answer.json["message"]) == (400, 'order must be newest or oldest, not "up"')


def test_a_change_tells_all_about_itself(lived: FlaskClient) -> None:
    change = asked(lived, selecting(tag="prod", action="Followed") + "&limit=1")["items"][0]
    at = change["position"]
    repository = "172.30.56.218:5000/shop/web"
    assert change.pop("time").endswith("Z")
    assert change["metadata"].pop("creationTimestamp").endswith("Z")
    assert len(change["cause"].pop("request")) == 36
    assert change == {
        "metadata": {"name": f"{at}-1", "namespace": "shop", "resourceVersion": str(at)},
        "position": at,
        "stream": "web",
        "tag": "prod",
        "action": "Followed",
        "from": {"image": B, "dockerImageReference": f"{repository}@{B}"},
        "to": {"image": A, "dockerImageReference": f"{repository}@{A}"},
        "actor": "system:unsecured",
        "actorUID": "system:unsecured",
        "reason": "",
        "cause": {"event": "ImageMapped", "door": "api", "tag": "latest"},
        "folded": False,
    }


def test_a_change_has_a_name_by_which_it_is_read(lived: FlaskClient) -> None:
    for change in asked(lived)["items"]:
        path = f"{HISTORY}/namespaces/shop/tagchanges/{change['metadata']['name']}"
        found = lived.get(path).json
        assert found == {**change, "kind": "TagChange", "apiVersion": "history.imagestream-es.io/v1"}
        assert lived.get(path.replace("/shop/", "/tools/")).status_code == 404
    for name in ("1-0", "999-0", "3-9", "03-0", "web:latest", "x"):
        assert lived.get(f"{HISTORY}/namespaces/shop/tagchanges/{name}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({"tag": "latest"}, lambda change: change[0] == "latest"),
        ({"stream": "web", "tag": "latest"}, lambda change: change[0] == "latest"),
        ({"stream": "other"}, lambda _: False),
        ({"action": "Deleted"}, lambda change: change[1] == "Deleted"),
        ({"image": A}, lambda change: "a" in change[2:]),
        ({"image": A, "tag": "prod"}, lambda change: "a" in change[2:] and change[0] == "prod"),
        ({"image": "sha256:d"}, lambda _: False),
        ({"actor": "system:unsecured"}, lambda _: True),
        ({"actor": "alice"}, lambda _: False),
        ({"tag!": "latest"}, lambda change: change[0] != "latest"),
        ({"image!": A}, lambda change: "a" not in change[2:]),
        ({"metadata.namespace": "tools"}, lambda _: False),
    ],
)
def test_field_selectors_choose_changes(
    lived: FlaskClient, fields: dict[str, str], chosen: Callable[[tuple[Any, ...]], bool]
) -> None:
    expected = [change for change in EVERYTHING if chosen(change)]
    assert told(lived, f"order=oldest&{selecting(**fields)}") == expected
    assert told(lived, selecting(**fields)) == expected[::-1]


def test_an_actor_is_told_by_name_while_it_is_known_and_found_by_name_and_id() -> None:
    with a_world() as world:
        push_to(world, "shop", "web", "latest")
        client = client_of(world)
        for names, name in (({"u": "alice"}, "alice"), ({}, "u")):
            world.history = History(world.queries, lambda _, names=names: names)  # type: ignore[misc]
            (change,) = asked(client)["items"]
            assert (change["actor"], change["actorUID"]) == (name, "u")
            for wanted in ("alice", "u", "bob"):
                found = asked(client, selecting(actor=wanted))["items"]
                assert found == ([change] if wanted in (name, "u") else [])


def test_an_unknown_selector_is_refused(lived: FlaskClient) -> None:
    answer = lived.get(f"{HISTORY}/namespaces/shop/tagchanges?{selecting(digest=A)}")
    assert (answer.status_code, answer.json["message"]) == (400, "field label not supported: digest")


@pytest.mark.parametrize("query", ["", "order=oldest", selecting(tag="latest"), selecting(image=A)])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_are_the_list_as_it_was_when_the_first_was_read(lived: FlaskClient, query: str, limit: int) -> None:
    whole = asked(lived, query)
    found, token = [], ""
    while True:
        page = asked(lived, f"{query}&limit={limit}&continue={token}")
        assert page["metadata"]["resourceVersion"] == whole["metadata"]["resourceVersion"]
        found += page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert len(page["items"]) == limit
        push(lived, "latest", B)
        push(lived, "latest", A)
    assert found == whole["items"]


def test_changes_of_all_namespaces_are_listed_together(lived: FlaskClient) -> None:
    create(lived, "tools", "kit")
    push(lived, "v1", A, "tools", "kit")
    spaces = [item["metadata"]["namespace"] for item in asked(lived, space="")["items"]]
    assert spaces == ["tools", *["shop"] * len(EVERYTHING)]


def test_what_openshift_folds_is_told_as_folded(client: FlaskClient) -> None:
    create(client)
    push(client, "latest", A)
    image = {"metadata": {"name": A}, "dockerImageReference": f"quay.io/o/x@{A}"}
    body = {"metadata": {"name": "web"}, "tag": "latest", "image": image}
    sent(client, "POST", "shop/imagestreammappings", body)
    shown = sent(client, "GET", "shop/imagestreams/web")["status"]["tags"]
    assert [len(tag["items"]) for tag in shown] == [1]
    found = asked(client)["items"]
    assert [(item["action"], item["folded"]) for item in found] == [("Refreshed", True), ("Created", False)]


def test_a_tag_that_is_set_to_an_image_of_its_past_is_reverted(client: FlaskClient) -> None:
    create(client)
    for image in (A, B):
        push(client, "latest", image)
    tag = {"metadata": {"name": "web:latest"}, "tag": {"from": {"kind": "ImageStreamImage", "name": f"web@{A}"}}}
    sent(client, "PUT", "shop/imagestreamtags/web:latest", tag)
    assert told(client, "limit=1") == [("latest", "Reverted", "b", "a")]
    sent(client, "DELETE", "shop/imagestreamtags/web:latest")
    assert told(client, "limit=1") == [("latest", "Deleted", "a", "")]


def test_a_spec_that_is_set_and_removed_is_told(client: FlaskClient) -> None:
    source = {"kind": "DockerImage", "name": "quay.io/o/x:1"}
    create(client, tags=[{"name": "ext", "from": source}])
    sent(client, "PUT", "shop/imagetags/web:ext", {"metadata": {"name": "web:ext"}})
    assert told(client) == [("ext", "SpecSet", "", ""), ("ext", "SpecRemoved", "", "")]


def test_a_history_that_was_pruned_is_no_change_of_its_tag_but_its_end_is(client: FlaskClient) -> None:
    create(client)
    for image in (A, B):
        push(client, "latest", image)
    stream = sent(client, "GET", "shop/imagestreams/web")
    stream["status"]["tags"][0]["items"].pop()
    pruned = sent(client, "PUT", "shop/imagestreams/web/status", stream)
    assert told(client, "limit=1") == [("latest", "Moved", "a", "b")]
    pruned["status"]["tags"] = []
    sent(client, "PUT", "shop/imagestreams/web/status", pruned)
    assert told(client, "limit=1") == [("latest", "Deleted", "b", "")]


# --- watches


def lines(client: FlaskClient, query: str, space: str = "/namespaces/shop") -> list[dict[str, Any]]:
    answer = client.get(f"{HISTORY}{space}/tagchanges?watch=1&timeoutSeconds=1&{query}")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.data.splitlines()]


def test_a_watch_tells_every_change_from_any_old_position(lived: FlaskClient) -> None:
    found = lines(lived, "resourceVersion=1")
    assert {line["type"] for line in found} == {"ADDED"}
    changes = asked(lived, "order=oldest")["items"]
    assert [line["object"]["metadata"]["name"] for line in found] == [one["metadata"]["name"] for one in changes]
    middle = changes[4]["position"]
    later = lines(lived, f"resourceVersion={middle}&{selecting(tag='prod')}")
    names = [one["metadata"]["name"] for one in changes if one["position"] > middle and one["tag"] == "prod"]
    assert [line["object"]["metadata"]["name"] for line in later] == names


def test_a_watch_that_goes_on_from_a_change_misses_none_of_the_same_event(lived: FlaskClient) -> None:
    found = [line["object"] for line in lines(lived, "resourceVersion=1")]
    names = [one["metadata"]["name"] for one in found]
    for number, one in enumerate(found):
        rest = lines(lived, f"resourceVersion={one['metadata']['resourceVersion']}")
        assert set(names[number + 1 :]) <= {line["object"]["metadata"]["name"] for line in rest}
    assert [one["metadata"]["resourceVersion"] for one in found][-1] == str(found[-1]["position"])


def test_a_watch_can_begin_with_what_is_there_and_tells_where_it_is(lived: FlaskClient) -> None:
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    found = lines(lived, query)
    assert [line["type"] for line in found[: len(EVERYTHING) + 1]] == ["ADDED"] * len(EVERYTHING) + ["BOOKMARK"]
    assert found[-1]["object"]["metadata"]["resourceVersion"] == asked(lived)["metadata"]["resourceVersion"]


# --- real clients


@pytest.fixture
def watched(service) -> Any:  # type: ignore[no-untyped-def]
    """A running service with a few changes."""

    def post(path: str, body: dict[str, Any]) -> None:
        status, answer = service.request(
            f"{IMAGES}/{path}", "POST", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        assert status == 201, answer

    post("shop/imagestreams", {"metadata": {"name": "web"}})
    for image in (A, B, A):
        post(
            "shop/imagestreammappings",
            {"metadata": {"name": "web"}, "tag": "latest", "image": {"metadata": {"name": image}}},
        )
    return service


Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


def test_kubectl_prints_changes(watched: Any, kubectl: Kubectl) -> None:
    heading, *rows = kubectl("get", "tc", "-n", "shop").stdout.splitlines()
    assert heading.split() == ["TIME", "TAG", "ACTION", "FROM", "TO", "ACTOR", "REASON"]
    assert [row.split()[1:] for row in rows] == [
        ["web:latest", "Reverted", B[:19], A[:19], "system:unsecured"],
        ["web:latest", "Moved", A[:19], B[:19], "system:unsecured"],
        ["web:latest", "Created", A[:19], "system:unsecured"],
    ]
    assert kubectl("get", "tc", "-n", "shop", "--chunk-size", "1").stdout.splitlines() == [heading, *rows]
    everywhere = kubectl("get", "tagchanges", "-A", "--field-selector", "action=Moved").stdout.splitlines()
    assert [line.split()[0] for line in everywhere] == ["NAMESPACE", "shop"]
    wide = kubectl("get", "tc", "-n", "shop", "-o", "wide").stdout.splitlines()
    name = json.loads(kubectl("get", "tc", "-n", "shop", "-o", "json").stdout)["items"][0]["metadata"]["name"]
    assert name in wide[1].split()
    assert "action: Reverted" in kubectl("get", "tc", name, "-n", "shop", "-o", "yaml").stdout
    watch = kubectl("get", "tc", "-n", "shop", "--watch", "--request-timeout", "2s").stdout.splitlines()
    assert watch == [heading, *rows]
    explained = kubectl("explain", "tc.from", "--api-version", "history.imagestream-es.io/v1").stdout
    assert "dockerImageReference" in explained
