"""Reads as of a moment: what the API answered then, whatever happened since."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from histories import IMAGES, SPACES, Step, World, a_world, histories, thoroughly
from hypothesis import given
from image_api import client_of, create, delete, get, push

LISTS = ("imagestreams", "imagestreamtags", "imagetags")
READS = (
    "namespaces/shop/imagestreams/web",
    "namespaces/shop/imagestreamtags/web:latest",
    "namespaces/shop/imagetags/web:latest",
    f"namespaces/shop/imagestreamimages/web@{IMAGES[0]}",
)
PATHS = (*LISTS, *(f"namespaces/{space}/{kind}" for space in SPACES for kind in LISTS), *READS)


def answers(client: FlaskClient, **query: Any) -> dict[str, tuple[int, Any]]:
    found = {path: get(client, path, **query) for path in PATHS}
    return {path: (answer.status_code, answer.json) for path, answer in found.items()}


def text(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@thoroughly
@given(histories)
def test_as_of_every_moment_is_what_was_answered_then(steps: list[Step]) -> None:
    with a_world() as world:
        client = client_of(world)
        then: dict[int, Any] = {}
        times: dict[int, int] = {}
        for position in world.live_through(steps):
            if position not in then:
                then[position], times[position] = answers(client), world.clock()
        for position, expected in then.items():
            assert answers(client, asOf=position) == expected
            assert answers(client, asOf=text(times[position])) == expected


@pytest.fixture
def world() -> Any:
    with a_world() as found:
        yield found


def test_a_time_means_the_last_event_that_is_not_after_it(world: World) -> None:
    first = push(world, "shop", "web", "latest")
    moment = world.clock()
    push(world, "shop", "web", "latest", IMAGES[1])
    client = client_of(world)

    def image(as_of: object) -> str:
        return str(get(client, READS[1], asOf=as_of).json["image"]["metadata"]["name"])

    assert image(first) == image(text(moment)) == image(text(moment + 699)) == IMAGES[0]
    assert image(text(moment + 700)) == IMAGES[1]
    with_zone = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    assert image(with_zone) == IMAGES[0]
    assert get(client, READS[1], asOf=text(moment - 1)).status_code == 404
    assert get(client, "imagestreams", asOf="1970-01-01T00:00:00Z").json["items"] == []


def test_times_are_found_in_a_long_log_though_clocks_jump(world: World) -> None:
    expected: list[tuple[int, int]] = []
    latest = world.clock()
    for number in range(150):
        world.seconds += (-50, 3, 60)[number % 3]
        position = create(world, "many", f"s{number}")
        latest = max(latest, world.clock())
        expected.append((latest, position))
    for time, _ in expected:
        wanted = max(position for moment, position in expected if moment <= time)
        assert world.history.position_at(time) == wanted
    assert world.history.head() == (expected[-1][1], latest)


def test_what_was_deleted_can_still_be_read(world: World) -> None:
    before = push(world, "shop", "web", "latest")
    client = client_of(world)
    shown = answers(client)
    delete(world, "shop", "web")
    assert get(client, READS[0]).status_code == 404
    assert answers(client, asOf=before) == shown


def test_an_answer_that_can_never_be_another_may_be_kept_for_ever(world: World) -> None:
    position = push(world, "shop", "web", "latest")
    moment = world.clock()
    client = client_of(world)
    kept = "private, max-age=31536000, immutable"
    assert get(client, READS[0], asOf=position).headers["Cache-Control"] == kept
    assert "Authorization" in get(client, "imagestreams", asOf=position).headers["Vary"]
    # An event that is not after the time may still come, until there is one behind it.
    assert "immutable" not in get(client, READS[0], asOf=text(moment)).headers["Cache-Control"]
    push(world, "shop", "web", "v1", IMAGES[1])
    assert get(client, READS[0], asOf=text(moment)).headers["Cache-Control"] == kept
    assert "immutable" not in get(client, "namespaces/shop/imagestreams/none", asOf=position).headers["Cache-Control"]
    assert "immutable" not in get(client, READS[0]).headers["Cache-Control"]


def test_pages_as_of_a_moment_are_of_that_moment(world: World) -> None:
    then = [create(world, "shop", f"s{number}") for number in range(3)][-1]
    delete(world, "shop", "s2")
    client = client_of(world)
    whole = get(client, "namespaces/shop/imagestreams", asOf=then).json
    first = get(client, "namespaces/shop/imagestreams", asOf=then, limit=3).json
    token = first["metadata"]["continue"]
    rest = get(client, "namespaces/shop/imagestreams", **{"asOf": then, "limit": 3, "continue": token}).json
    assert first["items"] + rest["items"] == whole["items"]
    other = get(client, "namespaces/shop/imagestreams", **{"asOf": then - 1, "continue": token})
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("imagestreams", {"asOf": 10**9}, "asOf=1000000000 lies beyond now: the log ends at position 3"),
        ("imagestreams", {"asOf": "2999-01-01T00:00:00Z"}, "asOf=2999-01-01T00:00:00Z lies beyond now"),
        ("imagestreams", {"asOf": "yesterday"}, "asOf must be a position in the log, or a time such as"),
        ("imagestreams", {"asOf": "-1"}, "asOf must be a position in the log"),
        ("imagestreams", {"asOf": 2, "watch": "1"}, "asOf is forbidden for watch"),
        ("imagestreams", {"asOf": 2, "resourceVersion": 2}, "asOf and resourceVersion both name a moment"),
        ("namespaces/shop/imagestreams/web/status", {"asOf": 2}, "asOf is for reads of what has a past"),
        ("/api/v1/namespaces", {"asOf": 2}, "asOf is for reads of what has a past"),
    ],
)
def test_what_is_no_moment_of_the_past_is_refused(world: World, path: str, query: dict[str, Any], message: str) -> None:
    answer = get(client_of(world), path, **query)
    assert answer.status_code == 400
    assert message in answer.json["message"]


def test_nothing_can_be_written_in_the_past(world: World) -> None:
    answer = client_of(world).delete("/apis/image.openshift.io/v1/namespaces/shop/imagestreams/web?asOf=2")
    assert answer.status_code == 400
    assert world.queries.image_stream("shop", "web") is not None
