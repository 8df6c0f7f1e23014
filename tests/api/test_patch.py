"""What a patch does to a document, and that no patch, however odd, does anything else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.patch import (
    IMAGE_LISTS,
    JSON_PATCH,
    MAX_DEPTH,
    MAX_OPERATIONS,
    MEDIA_TYPES,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    PatchError,
    apply_patch,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def patched(media_type: str, document: dict[str, Any], patch: Any) -> dict[str, Any]:
    body = patch if isinstance(patch, bytes) else json.dumps(patch).encode()
    return apply_patch(media_type, body, document, IMAGE_LISTS)


def strategic(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    return patched(STRATEGIC_MERGE_PATCH, document, patch)


def refusal(media_type: str, document: dict[str, Any], patch: Any) -> tuple[int, str]:
    with pytest.raises(PatchError) as caught:
        patched(media_type, document, patch)
    return caught.value.code, caught.value.reason


def stream(*tags: str) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"tags": [tag(name) for name in tags]}}


def tag(name: str, source: str = "example.test/web:1") -> dict[str, Any]:
    return {"name": name, "from": {"kind": "DockerImage", "name": source}}


def tag_names(document: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in document["spec"]["tags"]]


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


# --------------------------------------------------------------------------- what all kinds share


@pytest.mark.parametrize("media_type", ["application/json", "application/apply-patch+yaml", "", "x" * 9999])
def test_another_media_type_is_refused_and_the_three_are_named(media_type: str) -> None:
    with pytest.raises(PatchError) as caught:
        patched(media_type, {}, {})
    assert (caught.value.code, caught.value.reason) == (415, "UnsupportedMediaType")
    assert all(known in caught.value.message for known in MEDIA_TYPES)
    assert len(caught.value.message) < 500


def test_parameters_and_case_of_the_media_type_do_not_matter() -> None:
    assert patched("Application/Merge-Patch+JSON ; charset=utf-8", {}, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
def test_a_body_that_is_no_json_is_a_bad_request(media_type: str, body: bytes) -> None:
    assert refusal(media_type, {}, body) == (400, "BadRequest")


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH])
@pytest.mark.parametrize("patch", [[], [{"op": "test"}], "text", 1, None, True])
def test_a_merge_patch_that_is_no_object_is_a_bad_request(media_type: str, patch: Any) -> None:
    assert refusal(media_type, {"a": 1}, patch) == (400, "BadRequest")


@pytest.mark.parametrize("patch", [{}, "text", 1, None, ["remove"], [[]], [None], [{"op": "test"}, 3]])
def test_a_json_patch_that_is_no_list_of_objects_is_a_bad_request(patch: Any) -> None:
    assert refusal(JSON_PATCH, {"a": 1}, patch) == (400, "BadRequest")


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH])
def test_a_patch_may_nest_only_so_deeply(media_type: str) -> None:
    assert patched(media_type, {}, nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert refusal(media_type, {}, nested(MAX_DEPTH + 1)) == (400, "BadRequest")


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_patch_of_a_million_empty_values_is_too_large(media_type: str) -> None:
    values = b"[" + b",".join([b"[]"] * 1_000_000) + b"]"
    body = b'[{"op":"add","path":"/a","value":' + values + b"}]" if media_type == JSON_PATCH else values
    assert refusal(media_type, {}, body) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("patch", [{"x" * 13_000_000: 1}, {"a": "x" * 13_000_000}])
def test_a_patch_of_very_long_texts_is_too_large(patch: Any) -> None:
    assert refusal(MERGE_PATCH, {}, patch) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("media_type", "patch"),
    [
        (JSON_PATCH, [{"op": "add", "path": "/metadata/name", "value": "other"}]),
        (MERGE_PATCH, {"metadata": {"name": "other"}}),
        (STRATEGIC_MERGE_PATCH, {"metadata": {"name": "other"}, "spec": {"tags": [tag("b")]}}),
    ],
)
def test_the_document_stays_as_it_was_whatever_happens_to_the_answer(media_type: str, patch: Any) -> None:
    document = stream("a", "b")
    before = copy.deepcopy(document)
    answer = patched(media_type, document, patch)
    assert answer["metadata"]["name"] == "other"
    answer["spec"]["tags"][0]["from"]["name"] = "changed"
    answer["spec"]["tags"].clear()
    assert document == before


# --------------------------------------------------------------------------- JSON patch


def test_operations_are_applied_in_turn() -> None:
    operations = [
        {"op": "test", "path": "/spec/tags/0/name", "value": "a"},
        {"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}},
        {"op": "copy", "from": "/spec/tags/0", "path": "/spec/tags/-"},
        {"op": "replace", "path": "/spec/tags/1/name", "value": "b"},
        {"op": "move", "from": "/metadata/annotations/x", "path": "/metadata/annotations/z~1y"},
        {"op": "remove", "path": "/spec/tags/0"},
    ]
    assert patched(JSON_PATCH, stream("a"), operations) == {
        "metadata": {"name": "web", "annotations": {"z/y": "y"}},
        "spec": {"tags": [tag("b")]},
    }


def test_no_operations_change_nothing() -> None:
    assert patched(JSON_PATCH, stream("a"), []) == stream("a")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/metadata/name", "value": "other"},
        {"op": "add", "path": "/metadata/labels/q", "value": "1"},
        {"op": "add", "path": "/spec/tags/2", "value": {}},
        {"op": "add", "path": "/spec/tags/99999999999999999999999", "value": {}},
        {"op": "add", "path": "/spec/tags/" + "9" * 5000, "value": {}},
        {"op": "add", "path": "/spec/tags/-1", "value": {}},
        {"op": "add", "path": "/spec/tags/1e0", "value": {}},
        {"op": "add", "path": "/spec/tags/x", "value": {}},
        {"op": "add", "path": "/metadata/name/x", "value": {}},
        {"op": "add", "path": "metadata", "value": {}},
        {"op": "add", "path": "/bad~2escape", "value": {}},
        {"op": "add", "path": "/a"},
        {"op": "add", "value": 1},
        {"op": "add", "path": 5, "value": 1},
        {"op": "add", "path": ["a"], "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "remove", "path": "/nothing"},
        {"op": "remove", "path": ""},
        {"op": "remove", "path": "/spec/tags/-"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "replace", "path": "", "value": []},
        {"op": "replace", "path": "", "value": None},
        {"op": "add", "path": "", "value": "text"},
        {"op": "move", "from": "/metadata", "path": "/metadata/name"},
        {"op": "move", "path": "/a"},
        {"op": "move", "from": 3, "path": "/a"},
        {"op": "copy", "path": "/a"},
        {"op": "copy", "from": {}, "path": "/a"},
        {"op": "copy", "from": "/spec/tags/-", "path": "/a"},
        {"op": "copy", "from": "/nothing", "path": "/a"},
        {"op": "destroy", "path": "/metadata"},
        {"op": None, "path": "/metadata"},
        {"op": ["add"], "path": "/metadata", "value": 1},
        {"path": "/metadata", "value": 1},
        {},
    ],
)
def test_an_operation_that_does_not_fit_is_unprocessable(operation: dict[str, Any]) -> None:
    with pytest.raises(PatchError) as caught:
        patched(JSON_PATCH, stream("a"), [operation])
    assert caught.value.code == 422
    assert caught.value.reason == "Invalid"
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_a_failing_operation_undoes_those_before_it() -> None:
    document = stream("a")
    operations = [{"op": "remove", "path": "/spec"}, {"op": "remove", "path": "/nothing"}]
    assert refusal(JSON_PATCH, document, operations) == (422, "Invalid")
    assert document == stream("a")


def test_the_whole_document_can_be_replaced_by_another_object() -> None:
    assert patched(JSON_PATCH, {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}]) == {"b": 2}


def test_operations_are_counted() -> None:
    nothing = {"op": "test", "path": "/a", "value": 1}
    assert patched(JSON_PATCH, {"a": 1}, [nothing] * MAX_OPERATIONS) == {"a": 1}
    assert refusal(JSON_PATCH, {"a": 1}, [nothing] * (MAX_OPERATIONS + 1)) == (413, "RequestEntityTooLarge")


def test_a_document_that_keeps_doubling_is_stopped() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(60)]
    assert refusal(JSON_PATCH, {"a": {"text": "x" * 1000}}, doubling) == (413, "RequestEntityTooLarge")


def test_long_texts_cannot_be_copied_for_ever() -> None:
    copies = [{"op": "copy", "from": "/a", "path": "/b"}] * 100
    assert refusal(JSON_PATCH, {"a": "x" * 1_000_000}, copies) == (413, "RequestEntityTooLarge")


def test_operations_cannot_build_what_one_patch_may_not_hold() -> None:
    wrap = [
        {"op": "add", "path": "/b", "value": {}},
        {"op": "move", "from": "/a", "path": "/b/a"},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    assert patched(JSON_PATCH, {"a": "x"}, wrap * (MAX_DEPTH - 1)) == nested(MAX_DEPTH)
    assert refusal(JSON_PATCH, {"a": "x"}, wrap * MAX_DEPTH) == (400, "BadRequest")
    assert refusal(JSON_PATCH, {"a": 1}, wrap * 3000) == (400, "BadRequest")
    missing = {"op": "remove", "path": "/nothing/here"}
    assert refusal(JSON_PATCH, {"a": 1}, [*(wrap * 3000), missing]) == (422, "Invalid")


@pytest.mark.timeout(60)
def test_inserting_before_a_very_long_list_again_and_again_takes_a_bounded_time() -> None:
    operations: list[dict[str, Any]] = [{"op": "add", "path": "/a", "value": [0] * 40_000}]
    operations += [{"op": "add", "path": "/a/0", "value": 0}] * (MAX_OPERATIONS - 1)
    answer = patched(JSON_PATCH, {}, operations)
    assert len(answer["a"]) == 40_000 + MAX_OPERATIONS - 1


# --------------------------------------------------------------------------- merge patch


@pytest.mark.parametrize(
    ("document", "patch", "answer"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": {"b": 3, "c": None}}, {"a": {"b": 3}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": [1]}, {"a": [None, {"b": None}]}, {"a": [None, {"b": None}]}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_a_merge_patch_replaces_adds_and_removes_members(document: Any, patch: Any, answer: Any) -> None:
    assert patched(MERGE_PATCH, document, patch) == answer


def test_a_merge_patch_replaces_every_list_as_a_whole() -> None:
    assert tag_names(patched(MERGE_PATCH, stream("a", "b"), {"spec": {"tags": [tag("c")]}})) == ["c"]


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
names = st.sampled_from(["a", "b", "spec", "tags", "name", "metadata", "x.y", "$patch", ""])
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(names, json_values, max_size=5)


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(member) for name, member in value.items() if member is not None}


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `new` of `old`, if `new` has no nulls in its objects."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            patch[name] = difference(before, value)
        elif value != before or type(value) is not type(before):
            patch[name] = value
    return patch


@unhurried
@given(objects, objects.map(without_nulls))
def test_the_difference_of_two_documents_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    assert patched(MERGE_PATCH, old, difference(old, new)) == new


# --------------------------------------------------------------------------- strategic merge patch


def test_maps_merge_and_nulls_delete() -> None:
    document = {"metadata": {"name": "web", "labels": {"a": "1", "b": "2"}}}
    patch = {"metadata": {"labels": {"b": None, "c": "3"}, "annotations": {"x": "y", "z": None}}}
    assert strategic(document, patch) == {
        "metadata": {"name": "web", "labels": {"a": "1", "c": "3"}, "annotations": {"x": "y"}}
    }


def test_a_tag_in_the_patch_changes_the_tag_of_that_name_and_leaves_the_others() -> None:
    patch = {"spec": {"tags": [{"name": "b", "from": {"name": "example.test/web:2"}}]}}
    assert strategic(stream("a", "b", "c"), patch)["spec"]["tags"] == [
        tag("a"),
        tag("b", "example.test/web:2"),
        tag("c"),
    ]


def test_a_tag_that_was_not_there_comes_first_without_its_nulls_and_directives() -> None:
    new = {"name": "b", "annotations": None, "from": {"kind": "DockerImage", "$patch": "merge"}}
    answer = strategic(stream("a"), {"spec": {"tags": [new]}})
    added = {"name": "b", "from": {"kind": "DockerImage"}}
    assert answer["spec"]["tags"] == [added, tag("a")]
    assert strategic({}, {"spec": {"tags": [new]}}) == {"spec": {"tags": [added]}}


def test_a_tag_is_deleted_by_name() -> None:
    patch = {"spec": {"tags": [{"name": "a", "$patch": "delete"}, {"name": "nothing", "$patch": "delete"}]}}
    assert tag_names(strategic(stream("a", "b"), patch)) == ["b"]


def test_a_tag_that_is_deleted_and_given_is_made_anew() -> None:
    patch = {"spec": {"tags": [{"name": "a", "reference": True}, {"name": "a", "$patch": "delete"}]}}
    assert strategic(stream("a"), patch)["spec"]["tags"] == [{"name": "a", "reference": True}]


def test_a_list_is_replaced_when_one_element_says_so() -> None:
    patch = {"spec": {"tags": [tag("c"), {"$patch": "replace"}, tag("b")]}}
    assert tag_names(strategic(stream("a", "b"), patch)) == ["c", "b"]
    assert strategic(stream("a"), {"spec": {"tags": [{"$patch": "replace"}]}})["spec"]["tags"] == []


def test_the_directive_to_merge_is_what_happens_anyway() -> None:
    patch = {"$patch": "merge", "spec": {"tags": [{"$patch": "merge", "name": "a", "reference": True}]}}
    assert strategic(stream("a"), patch)["spec"]["tags"] == [tag("a") | {"reference": True}]


def test_a_map_is_replaced_or_emptied_by_directive() -> None:
    document = {"metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}}
    patch = {
        "metadata": {
            "labels": {"$patch": "replace", "c": "3", "d": None},
            "annotations": {"$patch": "delete"},
        }
    }
    assert strategic(document, patch) == {"metadata": {"labels": {"c": "3"}, "annotations": {}}}
    assert strategic(document, {"$patch": "replace", "x": 1}) == {"x": 1}
    assert strategic(document, {"$patch": "delete"}) == {}


def test_finalizers_are_a_set() -> None:
    document = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c", "b"]}}
    assert strategic(document, patch) == {"metadata": {"finalizers": ["c", "a", "b"]}}
    assert strategic({}, {"metadata": {"finalizers": ["c", "b", "c"]}})["metadata"]["finalizers"] == [
        "c",
        "b",
    ]


def test_finalizers_are_deleted_beside_those_that_are_added() -> None:
    document = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "nothing"], "finalizers": ["c"]}}
    assert sorted(strategic(document, patch)["metadata"]["finalizers"]) == ["b", "c"]


def test_to_delete_from_a_list_that_is_not_there_does_nothing() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic(stream("a"), patch) == stream("a")


def test_deleting_primitives_spares_elements_that_are_none_and_tells_numbers_from_booleans() -> None:
    document = {"args": [1, True, 1.5, "1", {"a": 1}, None]}
    assert strategic(document, {"$deleteFromPrimitiveList/args": [1, 1.5]}) == {"args": [True, "1", {"a": 1}, None]}


def test_the_order_of_a_keyed_list_is_set_and_unnamed_elements_stay_between() -> None:
    patch = {"spec": {"$setElementOrder/tags": [{"name": "d"}, {"name": "b"}], "tags": [{"name": "d"}]}}
    assert tag_names(strategic(stream("a", "b", "c"), patch)) == ["d", "a", "b", "c"]


def test_the_order_of_a_set_is_set() -> None:
    patch = {"metadata": {"$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"]}}
    document = {"metadata": {"finalizers": ["a", "b"]}}
    assert strategic(document, patch)["metadata"]["finalizers"] == ["c", "a", "b"]


def test_an_order_for_a_list_that_is_replaced_as_a_whole_is_ignored() -> None:
    patch = {"$setElementOrder/args": ["b", "a"], "args": ["c", "b"]}
    assert strategic({"args": ["a", "b"]}, patch) == {"args": ["c", "b"]}


def test_an_order_for_a_list_that_is_not_there_is_ignored() -> None:
    assert strategic({"spec": {}}, {"spec": {"$setElementOrder/tags": [{"name": "a"}]}}) == {"spec": {}}


def test_what_kubectl_apply_sends_changes_one_tag() -> None:
    patch = {
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}\n"}},
        "spec": {
            "$setElementOrder/tags": [{"name": "latest"}],
            "tags": [{"from": {"name": "example.test/web:2"}, "name": "latest"}],
        },
    }
    assert strategic(stream("latest"), patch)["spec"]["tags"] == [tag("latest", "example.test/web:2")]


def test_only_the_retained_keys_stay() -> None:
    document = {"spec": {"a": 1, "b": 2, "c": {"d": 1}}}
    patch = {"spec": {"$retainKeys": ["b", "c"], "c": {"e": 2}, "a": None}}
    assert strategic(document, patch) == {"spec": {"b": 2, "c": {"d": 1, "e": 2}}}


def test_keys_merge_by_the_path_of_their_list_and_not_by_its_name() -> None:
    document = {"spec": {"tags": {"tags": [tag("a")]}}, "tags": [tag("a")], "spec.tags": [tag("a")]}
    patch = {"spec": {"tags": {"tags": [tag("b")]}}, "tags": [tag("b")], "spec.tags": [tag("b")]}
    assert strategic(document, patch) == patch


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("spec", "tags"), "name"),
        (("status", "tags"), "tag"),
        (("signatures",), "name"),
        (("image", "signatures"), "name"),
        (("metadata", "ownerReferences"), "uid"),
    ],
)
def test_the_keyed_lists_of_the_image_api_merge_by_their_key(path: tuple[str, ...], key: str) -> None:
    def wrapped(*elements: dict[str, Any]) -> dict[str, Any]:
        value: dict[str, Any] = {path[-1]: list(elements)}
        for name in reversed(path[:-1]):
            value = {name: value}
        return value

    document = wrapped({key: "one", "x": 1}, {key: "two"})
    assert strategic(document, wrapped({key: "one", "y": 2}, {key: "two", "$patch": "delete"})) == wrapped(
        {key: "one", "x": 1, "y": 2}
    )


def test_conditions_of_a_signature_merge_by_type() -> None:
    document = {"signatures": [{"name": "s", "conditions": [{"type": "Trusted", "status": "False"}]}]}
    patch = {"signatures": [{"name": "s", "conditions": [{"type": "Trusted", "status": "True"}, {"type": "B"}]}]}
    assert strategic(document, patch) == patch


def test_other_lists_are_replaced() -> None:
    document = {"status": {"tags": [{"tag": "a", "items": [{"image": "1"}, {"image": "2"}]}]}}
    patch = {"status": {"tags": [{"tag": "a", "items": [{"image": "3"}]}]}}
    assert strategic(document, patch) == patch


def test_a_value_of_another_kind_is_replaced() -> None:
    assert strategic({"spec": {"tags": "text"}}, {"spec": {"tags": [tag("a")]}}) == {"spec": {"tags": [tag("a")]}}
    assert strategic({"spec": [1]}, {"spec": {"a": 1}}) == {"spec": {"a": 1}}
    assert strategic({"spec": {"a": 1}}, {"spec": "text"}) == {"spec": "text"}
    assert strategic({"spec": {"tags": [tag("a")]}}, {"spec": {"tags": {"a": 1}}}) == {"spec": {"tags": {"a": 1}}}


def test_elements_without_a_key_in_the_document_are_kept_in_their_order() -> None:
    document = {"spec": {"tags": [tag("a"), {"reference": True}, "odd", {"name": 3}]}}
    answer = strategic(document, {"spec": {"tags": [{"name": "b"}]}})
    assert answer["spec"]["tags"] == [{"name": "b"}, *document["spec"]["tags"]]


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "destroy"},
        {"$patch": None},
        {"$patch": ["delete"]},
        {"$patch": {}},
        {"spec": {"$patch": 1}},
        {"spec": {"tags": [{"from": {}}]}},
        {"spec": {"tags": [{"name": 1}]}},
        {"spec": {"tags": [{"name": None}]}},
        {"spec": {"tags": [{"name": {}}]}},
        {"spec": {"tags": ["a"]}},
        {"spec": {"tags": [None]}},
        {"spec": {"tags": [["a"]]}},
        {"spec": {"tags": [{"$patch": "delete"}]}},
        {"spec": {"tags": [{"$patch": "destroy", "name": "a"}]}},
        {"spec": {"$setElementOrder/tags": {}}},
        {"spec": {"$setElementOrder/tags": None}},
        {"spec": {"$setElementOrder/tags": ["a"]}},
        {"spec": {"$setElementOrder/tags": [{}]}},
        {"spec": {"$setElementOrder": []}},
        {"spec": {"$setElementOrder/": []}},
        {"metadata": {"finalizers": [{}]}},
        {"metadata": {"finalizers": [None]}},
        {"metadata": {"finalizers": [["a"]]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": [{}]}},
        {"metadata": {"$deleteFromPrimitiveList": ["a"]}},
        {"metadata": {"$retainKeys": "name"}},
        {"metadata": {"$retainKeys": [{}]}},
        {"metadata": {"$retainKeys": ["name"], "labels": {"a": "b"}}},
    ],
)
def test_a_misused_directive_is_a_bad_request(patch: Any) -> None:
    document = {"metadata": {"finalizers": ["a"]}, "spec": {"tags": [tag("a")]}}
    assert refusal(STRATEGIC_MERGE_PATCH, document, patch) == (400, "BadRequest")


def test_the_refusal_names_the_place_but_does_not_repeat_a_hostile_patch() -> None:
    with pytest.raises(PatchError, match=r"spec\.tags") as caught:
        strategic({}, {"spec": {"tags": [{"x" * 100_000: 1}]}})
    assert len(caught.value.message) < 300
    with pytest.raises(PatchError) as caught:
        strategic({}, {"x" * 100_000: {"$patch": 1}})
    assert len(caught.value.message) < 300


@pytest.mark.timeout(60)
def test_long_names_and_long_lists_take_a_time_that_grows_with_their_length() -> None:
    many = [{"name": str(number)} for number in range(10_000)]
    patch = {
        "x" * 500_000: {str(number): {} for number in range(10_000)},
        "spec": {"tags": many, "$setElementOrder/tags": many[::-1]},
    }
    assert strategic({"spec": {"tags": many}}, patch)["spec"]["tags"] == many[::-1]


def apply_like_kubectl(old: dict[str, int], new: dict[str, int]) -> dict[str, Any]:
    """The patch that a client computes to turn the tags of `old` into those of `new`, in their order."""
    changes: list[dict[str, Any]] = [
        {"name": name, "generation": value} for name, value in new.items() if old.get(name) != value
    ]
    changes += [{"name": name, "$patch": "delete"} for name in old if name not in new]
    return {"spec": {"$setElementOrder/tags": [{"name": name} for name in new], "tags": changes}}


tag_maps = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 3), max_size=7)


def listed(tags: dict[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "generation": value} for name, value in tags.items()]


@unhurried
@given(tag_maps, st.lists(st.sampled_from("abcdefg"), unique=True), tag_maps)
def test_a_patch_computed_from_two_lists_leads_from_one_to_the_other(
    old: dict[str, int], order: list[str], wanted: dict[str, int]
) -> None:
    new = {name: wanted[name] for name in [*order, *wanted] if name in wanted}
    answer = strategic({"spec": {"tags": listed(old)}}, apply_like_kubectl(old, new))
    assert answer == {"spec": {"tags": listed(new)}}


@unhurried
@given(tag_maps, tag_maps, tag_maps)
def test_tags_that_the_client_does_not_know_keep_their_order_among_the_patched(
    old: dict[str, int], new: dict[str, int], others: dict[str, int]
) -> None:
    foreign = {name.upper(): value for name, value in others.items()}
    live = {**foreign, **old}
    answer = strategic({"spec": {"tags": listed(live)}}, apply_like_kubectl(old, new))["spec"]["tags"]
    assert [entry for entry in answer if entry["name"].islower()] == listed(new)
    assert [entry for entry in answer if entry["name"].isupper()] == listed(foreign)


# --------------------------------------------------------------------------- any patch at all

directives = st.sampled_from(
    [
        "$patch",
        "$retainKeys",
        "$setElementOrder/tags",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder",
    ]
)
fields = st.sampled_from(["metadata", "spec", "tags", "finalizers", "name", "from", "labels", "signatures"])
odd_values = st.recursive(
    scalars | st.sampled_from(["a", "b", "merge", "delete", "replace"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | directives, inner, max_size=4),
    max_leaves=25,
)
pointers = st.lists(
    st.sampled_from(["", "metadata", "spec", "tags", "name", "0", "1", "-", "-1", "01", "~0", "9" * 30]),
    max_size=4,
).map(lambda parts: "".join(f"/{part}" for part in parts))
operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | odd_values,
        "path": pointers | odd_values,
        "from": pointers | odd_values,
        "value": odd_values,
    },
)


def outcome(media_type: str, document: dict[str, Any], body: bytes) -> str | int:
    try:
        answer = apply_patch(media_type, body, document, IMAGE_LISTS)
    except PatchError as refused:
        return refused.code
    return "object" if isinstance(answer, dict) else type(answer).__name__


@settings(unhurried, max_examples=400)
@given(st.sampled_from(MEDIA_TYPES), odd_values | st.lists(operations, max_size=6), odd_values)
def test_any_patch_gives_an_object_or_a_refusal_and_leaves_the_document_alone(
    media_type: str, patch: Any, value: Any
) -> None:
    document = value if isinstance(value, dict) else {"spec": value, "metadata": {"finalizers": ["a", "b"]}}
    before = copy.deepcopy(document)
    assert outcome(media_type, document, json.dumps(patch).encode()) in ("object", 400, 422)
    assert document == before


@unhurried
@given(st.sampled_from(MEDIA_TYPES), st.binary(max_size=40))
def test_any_bytes_give_an_object_or_a_refusal(media_type: str, body: bytes) -> None:
    assert outcome(media_type, stream("a"), body) in ("object", 400, 422)
