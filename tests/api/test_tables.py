"""What `kubectl get` and `oc get` print of each kind."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.tables import human_duration, render

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DIGEST_A = "sha256:" + "a" * 64
DIGEST_B = "sha256:" + "b" * 64
REPOSITORY = "registry.test:5000/shop/web"

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


def at(seconds_ago: int) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def table(resource: str, *objects: dict[str, Any], include_object: str = "Metadata") -> dict[str, Any]:
    return render(resource, objects, now=NOW, include_object=include_object, list_metadata={"resourceVersion": "7"})


def cells(resource: str, each: dict[str, Any]) -> list[Any]:
    (row,) = table(resource, each)["rows"]
    answer: list[Any] = row["cells"]
    return answer


def columns(resource: str) -> list[tuple[str, str, str, int]]:
    definitions = table(resource)["columnDefinitions"]
    return [(each["name"], each["type"], each["format"], each["priority"]) for each in definitions]


def event(image: str, seconds_ago: int = 0, generation: int = 1, **more: Any) -> dict[str, Any]:
    reference = f"{REPOSITORY}@{image}"
    return {
        "created": at(seconds_ago),
        "dockerImageReference": reference,
        "image": image,
        "generation": generation,
    } | more


def stream(status_tags: Any = None, **status: Any) -> dict[str, Any]:
    return {
        "kind": "ImageStream",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": at(9 * DAY)},
        "spec": {"lookupPolicy": {"local": False}},
        "status": {"dockerImageRepository": REPOSITORY, "tags": status_tags, **status},
    }


def status_tag(name: str, seconds_ago: int = 0) -> dict[str, Any]:
    return {"tag": name, "items": [event(DIGEST_A, seconds_ago)]}


# --------------------------------------------------------------------------- the table itself


def test_a_table_carries_the_metadata_of_the_list_and_a_row_for_every_object() -> None:
    answer = table("images", {"metadata": {"name": "one"}}, {"metadata": {"name": "two"}})
    assert (answer["kind"], answer["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert answer["metadata"] == {"resourceVersion": "7"}
    assert [row["cells"][0] for row in answer["rows"]] == ["one", "two"]


def test_an_empty_table_has_its_columns() -> None:
    answer = table("imagestreams")
    assert answer["rows"] == []
    assert [column["name"] for column in answer["columnDefinitions"]] == ["Name", "Image Repository", "Tags", "Updated"]


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("images", [("Image Reference", 0)]),
        ("imagestreams", [("Image Repository", 0), ("Tags", 0), ("Updated", 0)]),
        ("imagestreamtags", [("Image Reference", 0), ("Updated", 0), ("Image Name", 1)]),
        ("imagestreamimages", [("Updated", 0), ("Image Reference", 1), ("Image Name", 1)]),
        ("imagetags", [("Spec", 0), ("Status", 0), ("History", 0), ("Updated", 0)]),
    ],
)
def test_every_resource_has_its_columns_after_the_name(resource: str, expected: list[tuple[str, int]]) -> None:
    name, *others = columns(resource)
    assert name == ("Name", "string", "name", 0)
    assert [(title, priority) for title, _, _, priority in others] == expected
    assert {kind for title, kind, _, _ in others if title != "History"} == {"string"}
    assert {kind for title, kind, _, _ in others if title == "History"} <= {"integer"}


def test_another_resource_has_a_name_and_a_time() -> None:
    assert columns("namespaces") == [("Name", "string", "name", 0), ("Created At", "date", "", 0)]
    assert cells("namespaces", {"metadata": {"name": "shop", "creationTimestamp": at(0)}}) == [
        "shop",
        "2026-11-23T12:00:00Z",
    ]


def test_a_row_carries_the_metadata_of_its_object() -> None:
    (row,) = table("imagestreams", stream())["rows"]
    assert row["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": stream()["metadata"],
    }
    assert render("images", [{}], now=NOW, list_metadata={})["rows"][0]["object"]["metadata"] == {}


def test_a_row_carries_the_whole_object_or_nothing_if_asked() -> None:
    assert table("imagestreams", stream(), include_object="Object")["rows"][0]["object"] == stream()
    assert table("imagestreams", stream(), include_object="None")["rows"][0]["object"] is None


@pytest.mark.parametrize("include_object", ["", "none", "metadata", "All", "x" * 10_000])
def test_another_inclusion_is_refused(include_object: str) -> None:
    with pytest.raises(ValueError, match="None, Metadata, Object") as caught:
        table("imagestreams", include_object=include_object)
    assert len(str(caught.value)) < 200


# --------------------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (1.99, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (1.5 * HOUR - 1, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47.5 * HOUR - 1, "47 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY - HOUR, "13 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY - HOUR, "8 weeks"),
        (60 * DAY, "2 months"),
        (730 * DAY - HOUR, "24 months"),
        (730 * DAY, "2 years"),
        (1095 * DAY, "3 years"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


# --------------------------------------------------------------------------- images and their names


def test_an_image_shows_its_reference() -> None:
    image = {"metadata": {"name": DIGEST_A}, "dockerImageReference": f"{REPOSITORY}@{DIGEST_A}"}
    assert cells("images", image) == [DIGEST_A, f"{REPOSITORY}@{DIGEST_A}"]


IMAGE = {"metadata": {"name": DIGEST_A}, "dockerImageReference": f"{REPOSITORY}@{DIGEST_A}"}


def test_a_stream_tag_shows_its_reference_its_age_and_widely_its_image() -> None:
    tag = {"metadata": {"name": "web:latest", "creationTimestamp": at(3 * HOUR)}, "tag": None, "image": IMAGE}
    assert cells("imagestreamtags", tag) == ["web:latest", f"{REPOSITORY}@{DIGEST_A}", "3 hours ago", DIGEST_A]


def test_a_stream_image_shows_its_age_and_widely_its_reference_and_image() -> None:
    image = {"metadata": {"name": f"web@{DIGEST_A}", "creationTimestamp": at(22)}, "image": IMAGE}
    assert cells("imagestreamimages", image) == [
        f"web@{DIGEST_A}",
        "22 seconds ago",
        f"{REPOSITORY}@{DIGEST_A}",
        DIGEST_A,
    ]


# --------------------------------------------------------------------------- image streams


def test_a_stream_shows_its_repository_its_tags_and_its_last_change() -> None:
    tags = [status_tag("a", 2 * DAY), status_tag("b", 2)]
    assert cells("imagestreams", stream(tags)) == ["web", REPOSITORY, "b,a", "2 seconds ago"]


@pytest.mark.parametrize("tags", [None, []])
def test_a_stream_without_history_has_empty_cells(tags: Any) -> None:
    assert cells("imagestreams", stream(tags)) == ["web", REPOSITORY, "", ""]


def test_a_tag_that_was_never_imported_is_shown_after_the_others_and_has_no_age() -> None:
    pending = {"tag": "a", "items": None, "conditions": [{"type": "ImportSuccess", "status": "False"}]}
    assert cells("imagestreams", stream([pending]))[2:] == ["a", ""]
    assert cells("imagestreams", stream([pending, status_tag("b", 60)]))[2:] == ["b,a", "About a minute ago"]


def test_the_public_repository_is_shown_before_the_own_and_that_before_the_internal() -> None:
    each = stream(publicDockerImageRepository="public.test/shop/web")
    each["spec"]["dockerImageRepository"] = "quay.test/web"
    assert cells("imagestreams", each)[1] == "public.test/shop/web"
    each["status"]["publicDockerImageRepository"] = ""
    assert cells("imagestreams", each)[1] == "quay.test/web"
    del each["spec"]["dockerImageRepository"]
    assert cells("imagestreams", each)[1] == REPOSITORY


def test_tags_of_one_second_are_sorted_by_name() -> None:
    assert cells("imagestreams", stream([status_tag("b"), status_tag("c", 5), status_tag("a")]))[2] == "a,b,c"


def test_the_newest_entry_of_a_tag_is_its_first() -> None:
    tag = {"tag": "a", "items": [event(DIGEST_A, 2 * DAY), event(DIGEST_B, 1)]}
    assert cells("imagestreams", stream([tag]))[3] == "2 days ago"


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [
        ([12] * 8, 3),
        ([9] * 4, 4),
        ([9] * 5, 4),
        ([39], 1),
        ([40], 1),
        ([100], 1),
        ([100, 1], 1),
        ([39, 1], 1),
        ([9, 9, 20], 3),
        ([9, 18, 20], 2),
        ([9, 17, 20], 3),
        ([9, 17, 21], 3),
        ([9, 17, 22], 2),
        ([9, 17, 21, 1], 3),
        ([9, 17, 13], 3),
        ([9, 17, 12, 1], 3),
    ],
)
def test_tags_are_shown_as_far_as_they_fit_and_the_rest_is_counted(lengths: list[int], shown: int) -> None:
    names = [chr(ord("a") + number) * length for number, length in enumerate(lengths)]
    cell = cells("imagestreams", stream([status_tag(name) for name in names]))[2]
    hidden = len(names) - shown
    assert cell == ",".join(names[:shown]) + (f" + {hidden} more..." if hidden else "")


# --------------------------------------------------------------------------- image tags


def source(kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    return {"kind": kind, "name": name} | ({"namespace": namespace} if namespace else {})


def image_tag(spec: Any = None, items: Any = None, conditions: Any = None) -> dict[str, Any]:
    status = None if items is None and conditions is None else {"tag": "x", "items": items, "conditions": conditions}
    return {"metadata": {"name": "web:x"}, "spec": spec, "status": status, "image": None}


EXTERNAL = source("DockerImage", "quay.test/web:1")
FAILED = {"type": "ImportSuccess", "status": "False", "reason": "Unauthorized", "lastTransitionTime": at(2 * HOUR)}


@pytest.mark.parametrize(
    ("spec", "items", "conditions", "expected"),
    [
        # nothing happened yet: where the image would come from
        (None, None, None, ["", "", None, ""]),
        ({"name": "x"}, None, None, ["", "", None, ""]),
        ({"from": EXTERNAL, "generation": 1}, None, None, ["Tag", "quay.test/web:1", None, ""]),
        ({"from": EXTERNAL, "generation": 1}, [], [], ["Tag", "quay.test/web:1", None, ""]),
        ({"from": EXTERNAL, "reference": True}, None, None, ["Ref", "quay.test/web:1", None, ""]),
        (
            {"from": EXTERNAL, "importPolicy": {"scheduled": True}},
            None,
            None,
            ["Scheduled", "quay.test/web:1", None, ""],
        ),
        ({"from": source("ImageStreamTag", "other:1")}, None, None, ["Tag", "istag/other:1", None, ""]),
        ({"from": source("ImageStreamTag", "other:1", "ns")}, None, None, ["Tag", "istag ns/other:1", None, ""]),
        ({"from": source("ImageStreamTag", "y")}, None, None, ["Track", "istag/y", None, ""]),
        ({"from": source("ImageStreamImage", f"web@{DIGEST_A}")}, None, None, ["Tag", f"image/{DIGEST_A}", None, ""]),
        (
            {"from": source("ImageStreamImage", f"web@{DIGEST_A}", "ns")},
            None,
            None,
            ["Tag", f"image/{DIGEST_A}", None, ""],
        ),
        # an image is there
        (
            {"from": EXTERNAL, "generation": 2},
            [event(DIGEST_A, 2 * DAY, 2), event(DIGEST_B, 3 * DAY)],
            None,
            ["Tag", f"image/{DIGEST_A}", 2, "2 days ago"],
        ),
        (
            {"from": EXTERNAL, "reference": True, "generation": 1},
            [event("", 5, dockerImageReference="quay.test/web:1")],
            [],
            ["Ref", "quay.test/web:1", 1, "5 seconds ago"],
        ),
        ({"from": EXTERNAL, "generation": 2}, [event(DIGEST_A, 5)], None, ["Tag", "Importing", 1, "5 seconds ago"]),
        # somebody pushed it
        (None, [event(DIGEST_A, 5)], None, ["Push", f"image/{DIGEST_A}", 1, "5 seconds ago"]),
        (None, [event("", 5)], None, ["Push", f"{REPOSITORY}@", 1, "5 seconds ago"]),
        (
            {"from": EXTERNAL, "generation": 1},
            [event(DIGEST_A, 5, 2)],
            None,
            ["Push", f"image/{DIGEST_A}", 1, "5 seconds ago"],
        ),
        (
            {"name": "x", "generation": 1},
            [event(DIGEST_A, 5, 2)],
            None,
            ["Push", f"image/{DIGEST_A}", 1, "5 seconds ago"],
        ),
        (
            {"from": source("ImageStreamTag", "y"), "generation": 1},
            [event(DIGEST_A, 5, 2)],
            None,
            ["Track", f"image/{DIGEST_A}", 1, "5 seconds ago"],
        ),
        # an import failed
        (
            {"from": EXTERNAL, "generation": 2},
            None,
            [FAILED],
            ["Tag", "ImportFailed (Unauthorized)", None, "2 hours ago"],
        ),
        (
            {"from": EXTERNAL, "generation": 2},
            [event(DIGEST_A, 5)],
            [FAILED],
            ["Tag", "ImportFailed (Unauthorized)", 1, "5 seconds ago"],
        ),
        (
            {"from": EXTERNAL, "generation": 2},
            [event(DIGEST_A, DAY)],
            [FAILED],
            ["Tag", "ImportFailed (Unauthorized)", 1, "2 hours ago"],
        ),
        ({"from": EXTERNAL}, None, [FAILED | {"status": "True"}], ["Tag", "quay.test/web:1", None, "2 hours ago"]),
        ({"from": EXTERNAL}, None, [FAILED | {"type": "Other"}], ["Tag", "quay.test/web:1", None, "2 hours ago"]),
        (
            {"from": EXTERNAL},
            None,
            [FAILED | {"reason": None, "lastTransitionTime": None}],
            ["Tag", "ImportFailed ()", None, ""],
        ),
    ],
)
def test_an_image_tag_shows_where_it_comes_from_what_it_is_and_how_often_it_changed(
    spec: Any, items: Any, conditions: Any, expected: list[Any]
) -> None:
    assert cells("imagetags", image_tag(spec, items, conditions)) == ["web:x", *expected]


# --------------------------------------------------------------------------- odd objects


@pytest.mark.parametrize(
    "moment",
    ["2026-11-23T11:00:00Z", "2026-11-23T11:00:00.000000+00:00", "2026-11-23T13:00:00+02:00", "2026-11-23T11:00:00"],
)
def test_a_time_may_be_written_in_any_zone_and_is_universal_without_one(moment: str) -> None:
    assert cells("imagestreamtags", {"metadata": {"creationTimestamp": moment}})[2] == "About an hour ago"


def test_the_clock_may_be_in_any_zone_and_behind() -> None:
    tag = {"metadata": {"creationTimestamp": "2026-11-23T11:00:00Z"}}
    local = NOW.astimezone(timezone(timedelta(hours=5)))
    answer = render("imagestreamtags", [tag], now=local, list_metadata={})
    assert answer["rows"][0]["cells"][2] == "About an hour ago"
    answer = render("imagestreamtags", [tag], now=NOW - timedelta(days=1), list_metadata={})
    assert answer["rows"][0]["cells"][2] == "Less than a second ago"


@pytest.mark.parametrize("moment", [None, "", "yesterday", 5, [], "9999-99-99T00:00:00Z"])
def test_a_time_that_is_none_makes_an_empty_cell(moment: Any) -> None:
    assert cells("imagestreamtags", {"metadata": {"creationTimestamp": moment}})[2] == ""
    tag = {"tag": "a", "items": [event(DIGEST_A, created=moment)]}
    assert cells("imagestreams", stream([tag]))[2:] == ["a", ""]


RESOURCES = ["images", "imagestreams", "imagestreamtags", "imagestreamimages", "imagetags", "others"]

fields = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "tags",
        "tag",
        "items",
        "conditions",
        "image",
        "from",
        "name",
        "kind",
        "created",
        "type",
        "creationTimestamp",
        "generation",
        "dockerImageReference",
        "importPolicy",
        "lastTransitionTime",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.datetimes().map(datetime.isoformat)
values = st.recursive(
    scalars | st.sampled_from(["False", "ImportSuccess", "ImageStreamTag", at(0)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=20,
)
shaped = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.none() | st.dictionaries(fields, values, max_size=3),
        "spec": st.none() | st.dictionaries(fields, values, max_size=4),
        "status": st.none()
        | st.fixed_dictionaries({}, optional={"tags": values, "items": values, "conditions": values}),
        "image": values,
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.sampled_from(RESOURCES), shaped | st.dictionaries(fields, values, max_size=4))
def test_any_object_makes_one_cell_for_every_column(resource: str, each: dict[str, Any]) -> None:
    before = copy.deepcopy(each)
    answer = table(resource, each)
    (row,) = answer["rows"]
    assert len(row["cells"]) == len(answer["columnDefinitions"])
    assert all(cell is None or isinstance(cell, str | int) for cell in row["cells"])
    assert json.dumps(row["cells"])
    assert each == before
