"""imageusages and diffs: where an image was tagged, and what lies between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from histories import IMAGES, World, a_world
from image_api import client_of, create, delete, get, push

HISTORY = "/apis/history.imagestream-es.io/v1"
A, B = IMAGES[:2]


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as found:
        yield found


def usages(world: World, query: str = "", space: str = "/namespaces/shop") -> Any:
    answer = client_of(world).get(f"{HISTORY}{space}/imageusages?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def told(found: Any) -> list[tuple[Any, ...]]:
    return [
        (one["stream"], one["tag"], one["image"], one["since"]["position"], one.get("until", {}).get("position"))
        for one in found["items"]
    ]


def test_a_usage_lasts_from_the_change_that_put_the_image_to_that_which_took_it_away(world: World) -> None:
    first = push(world, "shop", "web", "latest", A)
    second = push(world, "shop", "web", "latest", B)
    third = push(world, "shop", "web", "latest", A)
    gone = delete(world, "shop", "web")
    create(world, "shop", "web")
    again = push(world, "shop", "web", "v1", A)
    found = usages(world, f"image={A}")
    assert told(found) == [
        ("web", "latest", A, first, second),
        ("web", "latest", A, third, gone),
        ("web", "v1", A, again, None),
    ]
    assert (found["kind"], found["apiVersion"]) == ("ImageUsageList", "history.imagestream-es.io/v1")
    one = found["items"][0]
    assert one["metadata"]["name"] == f"{first}-0"
    assert (one["putBy"], one["removedBy"]) == ("u", "u")
    assert "removedBy" not in found["items"][2]
    assert one["since"]["time"].startswith("2023-11-14T22:13:2")


def test_several_images_are_asked_for_at_once_and_selectors_choose_among_their_usages(world: World) -> None:
    first = push(world, "shop", "web", "latest", A)
    second = push(world, "shop", "web", "v1", B)
    elsewhere = push(world, "tools", "web", "latest", A)
    both = [("web", "latest", A, first, None), ("web", "v1", B, second, None)]
    assert told(usages(world, f"image={A}&image={B}")) == both
    assert told(usages(world, f"fieldSelector=image={A}")) == both[:1]
    assert told(usages(world, f"image={A}&image={B}&fieldSelector=tag=v1")) == both[1:]
    assert told(usages(world, f"image={A}", "")) == [both[0], ("web", "latest", A, elsewhere, None)]
    page = usages(world, f"image={A}&image={B}&limit=1")
    rest = usages(world, f"image={A}&image={B}&limit=1&continue={page['metadata']['continue']}")
    assert told(page) + told(rest) == both


def test_usages_of_no_image_are_refused_with_what_to_do(world: World) -> None:
    answer = client_of(world).get(f"{HISTORY}/namespaces/shop/imageusages")
    assert answer.status_code == 400
    assert "say of which" in answer.json["message"]


def diffs(world: World, selector: str, space: str = "/namespaces/shop") -> list[tuple[Any, ...]]:
    answer = client_of(world).get(f"{HISTORY}{space}/diffs?fieldSelector={selector}")
    assert answer.status_code == 200, answer.text
    ends = [[one.get(end, {}).get("image") for end in ("from", "to")] for one in answer.json["items"]]
    return [
        (one["metadata"]["name"], one["change"], *images, len(one["changes"]))
        for one, images in zip(answer.json["items"], ends, strict=True)
    ]


def test_a_diff_tells_what_was_added_moved_and_removed(world: World) -> None:
    start = push(world, "shop", "web", "latest", A)
    push(world, "shop", "web", "gone", A)
    middle = push(world, "shop", "web", "latest", B)
    world.commands.delete_tag(world.caller(None), "shop", "web", "gone", "imagestreamtags")
    push(world, "shop", "web", "latest", A)
    end = push(world, "shop", "web", "new", B)
    assert diffs(world, f"from={start},to={middle}") == [
        ("web:gone", "Added", None, A, 1),
        ("web:latest", "Moved", A, B, 1),
    ]
    later = [("web:gone", "Removed", A, None, 1), ("web:latest", "Moved", B, A, 1), ("web:new", "Added", None, B, 1)]
    assert diffs(world, f"from={middle},to={end}") == diffs(world, f"from={middle}") == later
    # What came back to where it was is no difference.
    assert diffs(world, f"from={start},to={end}") == [("web:new", "Added", None, B, 1)]
    assert diffs(world, f"from={end},to={middle}") == [
        ("web:gone", "Added", None, A, 1),
        ("web:latest", "Moved", A, B, 1),
        ("web:new", "Removed", B, None, 1),
    ]
    assert diffs(world, f"from={middle},stream=web,change=Added") == [later[2]]
    assert diffs(world, f"from={middle},stream=other") == []
    assert diffs(world, f"from={middle}", "") == later


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("", "say from which one"),
        ("to=3", "say from which one"),
        ("from!=3", "must be given a value"),
        ("from=99999", "from=99999 lies beyond now"),
        ("from=then", "from must be a position in the log, or a time"),
        ("from=1,since=2", "field label not supported: since"),
    ],
)
def test_a_diff_between_no_two_moments_is_refused(world: World, selector: str, message: str) -> None:
    answer = get(client_of(world), f"{HISTORY}/namespaces/shop/diffs", fieldSelector=selector)
    assert answer.status_code == 400
    assert message in answer.json["message"]
