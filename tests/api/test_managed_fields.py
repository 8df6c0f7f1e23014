import json
from copy import deepcopy
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from api.managed_fields import ApplyConflict, apply, decode_fields, encode_fields, record_update, validate

GV = "image.openshift.io/v1"
T1, T2, T3 = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"

Object = dict[str, Any]
Path = tuple[str, ...]


def stream(metadata: Object | None = None, **parts: Any) -> Object:
    return {"apiVersion": GV, "kind": "ImageStream", "metadata": {"name": "web", **(metadata or {})}, **parts}


def tagged(*tags: Object, **metadata: Any) -> Object:
    return stream(metadata, spec={"tags": list(tags)})


def image(name: str) -> Object:
    return {"kind": "DockerImage", "name": name}


def updated(old: Object | None, new: Object, manager: str, time: str = T1, **more: str) -> Object:
    entries = record_update(old, new, manager=manager, time=time, api_version=GV, **more)
    return {**new, "metadata": {**new["metadata"], "managedFields": entries}}


def applying(live: Object | None, applied: Object, manager: str, time: str = T2, *, force: bool = False) -> Object:
    return apply(live, applied, manager=manager, force=force, time=time, api_version=GV)


def owners(thing: Object) -> dict[tuple[str, str], Any]:
    """manager and operation -> FieldsV1"""
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in thing["metadata"].get("managedFields", [])}


def tag_owned(name: str, *fields: str) -> Object:
    return {"f:spec": {"f:tags": {f'k:{{"name":"{name}"}}': {".": {}, **{f"f:{f}": {} for f in fields}}}}}


# --- writes other than apply ---


def test_the_creator_owns_everything_but_what_is_the_servers_and_what_was_never_empty() -> None:
    created = stream(
        {
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": T1,
            "labels": {"app": "web"},
            "finalizers": ["keep"],
        },
        spec={
            "lookupPolicy": {"local": False},
            "tags": [{"name": "latest", "annotations": None, "from": image("x"), "importPolicy": {"insecure": True}}],
        },
        status={"dockerImageRepository": "", "tags": [{"tag": "latest", "items": [{"image": "sha256:1"}]}]},
    )
    assert record_update(None, created, manager="oc", time=T1, api_version=GV) == [
        {
            "manager": "oc",
            "operation": "Update",
            "apiVersion": GV,
            "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {
                    "f:finalizers": {".": {}, 'v:"keep"': {}},
                    "f:labels": {".": {}, "f:app": {}},
                },
                "f:spec": {
                    "f:tags": {
                        ".": {},
                        'k:{"name":"latest"}': {
                            ".": {},
                            "f:from": {},
                            "f:importPolicy": {".": {}, "f:insecure": {}},
                            "f:name": {},
                        },
                    }
                },
                "f:status": {"f:tags": {".": {}, 'k:{"tag":"latest"}': {".": {}, "f:items": {}, "f:tag": {}}}},
            },
        }
    ]


def signature(name: str, content: str) -> Object:
    return {"metadata": {"name": name}, "type": "atomic", "content": content}


def test_an_image_is_owned_by_its_fields_and_its_signatures_by_name() -> None:
    created = {
        "metadata": {"name": "sha256:1"},
        "dockerImageMetadata": {"Id": "x", "Config": {"Env": []}},
        "dockerImageLayers": [{"name": "a"}],
        "signatures": [signature("one", "abc")],
    }
    [entry] = record_update(None, created, manager="oc", time=T1, api_version=GV)
    one: Object = {".": {}, "f:content": {}, "f:metadata": {".": {}, "f:name": {}}, "f:type": {}}
    assert entry["fieldsV1"] == {
        "f:dockerImageMetadata": {},
        "f:dockerImageLayers": {},
        "f:signatures": {".": {}, 'k:{"name":"one"}': one},
    }


def test_signatures_are_applied_by_name() -> None:
    live = {"metadata": {"name": "sha256:1"}, "signatures": [signature("one", "abc")]}
    both = applying(live, {"metadata": {"name": "sha256:1"}, "signatures": [signature("two", "def")]}, "m")
    assert both["signatures"] == [signature("one", "abc"), signature("two", "def")]
    assert applying(both, {"metadata": {"name": "sha256:1"}}, "m")["signatures"] == [signature("one", "abc")]


def test_a_changed_field_goes_to_who_changed_it_and_the_rest_stays() -> None:
    old = updated(None, stream({"labels": {"a": "1", "b": "1"}}), "one")
    new = updated(old, stream({"labels": {"a": "1", "b": "2", "c": "1"}}), "two", T2)
    assert owners(new) == {
        ("one", "Update"): {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}},
        ("two", "Update"): {"f:metadata": {"f:labels": {"f:b": {}, "f:c": {}}}},
    }
    assert [entry["time"] for entry in new["metadata"]["managedFields"]] == [T1, T2]


def test_a_removed_field_belongs_to_nobody_and_removing_it_is_no_claim() -> None:
    old = updated(None, stream({"labels": {"a": "1", "b": "1"}}), "one")
    new = updated(old, stream({"labels": {"a": "1"}}), "two", T2)
    assert owners(new) == {("one", "Update"): {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}}
    assert new["metadata"]["managedFields"][0]["time"] == T1


def test_who_owns_nothing_any_more_is_left_out() -> None:
    old = updated(None, stream({"labels": {"a": "1"}}), "one")
    assert updated(old, stream(), "two", T2)["metadata"]["managedFields"] == []


def test_a_write_that_changes_nothing_leaves_the_list_as_it_is() -> None:
    old = updated(None, tagged({"name": "latest", "from": image("x")}), "one")
    again = tagged({"name": "latest", "from": image("x"), "annotations": None}, uid="other")
    assert record_update(old, again, manager="two", time=T2, api_version=GV) is old["metadata"]["managedFields"]


def test_the_same_manager_has_one_entry_per_subresource_and_version() -> None:
    one = updated(None, stream({"labels": {"a": "1"}}), "m")
    two = updated(one, stream({"labels": {"a": "1"}}, status={"dockerImageRepository": "r"}), "m", subresource="status")
    entries = two["metadata"]["managedFields"]
    assert [entry.get("subresource") for entry in entries] == [None, "status"]
    assert entries[1]["fieldsV1"] == {"f:status": {"f:dockerImageRepository": {}}}


def test_a_reference_and_an_ordinary_list_are_one_field_each() -> None:
    old = tagged({"name": "latest", "from": image("x")})
    old["status"] = {"tags": [{"tag": "latest", "items": [{"image": "a"}, {"image": "b"}]}]}
    new = deepcopy(old)
    new["spec"]["tags"][0]["from"]["name"] = "y"
    new["status"]["tags"][0]["items"][1]["image"] = "c"
    fields: Object = owners(updated(updated(None, old, "one"), new, "two"))["two", "Update"]
    assert fields["f:spec"] == {"f:tags": {'k:{"name":"latest"}': {"f:from": {}}}}
    assert fields["f:status"] == {"f:tags": {'k:{"tag":"latest"}': {"f:items": {}}}}


def test_an_update_takes_fields_from_who_applied_them() -> None:
    applied = applying(None, stream({"labels": {"a": "1", "b": "1"}}), "one")
    new = updated(applied, stream({"labels": {"a": "2", "b": "1"}}), "one")
    assert owners(new) == {
        ("one", "Apply"): {"f:metadata": {"f:labels": {"f:b": {}}}},
        ("one", "Update"): {"f:metadata": {"f:labels": {"f:a": {}}}},
    }


# --- a client writes managedFields itself ---


def entry(manager: Any = "m", operation: str = "Update", **more: Any) -> Object:
    fields: Object = {"f:metadata": {"f:labels": {"f:a": {}}}}
    return {"manager": manager, "operation": operation, "apiVersion": GV, "fieldsType": "FieldsV1"} | {
        "fieldsV1": fields,
        **more,
    }


def test_managed_fields_that_a_client_writes_replace_the_old() -> None:
    old = updated(None, stream({"labels": {"a": "1"}}), "one")
    new = stream({"labels": {"a": "1"}, "managedFields": [entry("two", "Apply", time=T1)]})
    assert owners(updated(old, new, "three")) == {("two", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}}}}}


def test_what_changes_in_the_same_write_is_recorded_on_top() -> None:
    old = updated(None, stream({"labels": {"a": "1"}}), "one")
    new = stream({"labels": {"a": "1", "b": "1"}, "managedFields": [entry("two", "Apply", time=T1)]})
    assert owners(updated(old, new, "three")) == {
        ("two", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}}}},
        ("three", "Update"): {"f:metadata": {"f:labels": {"f:b": {}}}},
    }


@pytest.mark.parametrize("reset", [[], [{}]])
def test_an_empty_list_or_entry_forgets_all_owners(reset: list[Object]) -> None:
    old = updated(None, stream({"labels": {"a": "1"}}), "one")
    assert updated(old, stream({"labels": {"a": "1"}, "managedFields": reset}), "x")["metadata"]["managedFields"] == []


def test_managed_fields_are_brought_into_one_form() -> None:
    messy = [
        entry("late", time="2026-01-01T02:00:03+02:00", subresource=None, more="dropped"),
        entry("early", time=T1),
        entry("nothing", fieldsV1={}),
        entry("applier", "Apply", fieldsV1={"f:spec": {"f:tags": {'k:{ "name": "\\u0061" }': {"f:from": {}}}}}),
        entry("early", time=T2, fieldsV1={"f:spec": {}}),
    ]
    neat = [
        entry("applier", "Apply", fieldsV1={"f:spec": {"f:tags": {'k:{"name":"a"}': {"f:from": {}}}}}),
        entry("early", time=T2, fieldsV1={"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {}}),
        entry("late", time="2026-01-01T00:00:03Z"),
    ]
    assert validate(messy) == neat
    assert validate(neat) == neat


@pytest.mark.parametrize(
    "managed_fields",
    [
        None,
        {},
        "x",
        [None],
        [[]],
        [{}, {}],
        [entry(operation="Patch")],
        [entry(manager=7)],
        [entry(manager="x" * 129)],
        [entry(manager="x\n")],
        [entry(apiVersion="")],
        [entry(apiVersion=None)],
        [entry(fieldsType="FieldsV2")],
        [entry(subresource=1)],
        [entry(time="yesterday")],
        [entry(time="2026-01-01")],
        [entry(time="2026-01-01T00:00:00")],
        [entry(time="0001-01-01T00:00:00+10:00")],
        [entry(time=7)],
        [entry(fieldsV1="{}")],
        [entry(fieldsV1={"f:a": None})],
        [entry(fieldsV1={"f:a": {"x": {}}})],
        [entry(fieldsV1={"f:a": {"f:b": []}})],
        [entry(fieldsV1={"f:a": {".": {"f:b": {}}}})],
        [entry(fieldsV1={"": {}})],
        [entry(fieldsV1={"f": {}})],
        [entry(fieldsV1={"g:a": {}})],
        [entry(fieldsV1={"k:{}": {}})],
        [entry(fieldsV1={'k:"a"': {}})],
        [entry(fieldsV1={"k:{": {}})],
        [entry(fieldsV1={"v:": {}})],
        [entry(fieldsV1={"v:" + "[" * 100_000: {}})],
        [entry(fieldsV1={"i:true": {}})],
    ],
    ids=lambda value: json.dumps(value)[:80],
)
def test_malformed_managed_fields_are_refused(managed_fields: Any) -> None:
    with pytest.raises(ValueError, match=r"^metadata\.managedFields"):
        validate(managed_fields)


def test_fields_nested_without_end_are_refused() -> None:
    fields: Object = {}
    for _ in range(10_000):
        fields = {"f:a": fields}
    with pytest.raises(ValueError, match="too deep"):
        decode_fields(fields)


def test_a_malformed_list_in_an_update_is_refused() -> None:
    with pytest.raises(ValueError, match=r"managedFields\[0\]: operation"):
        updated(None, stream({"managedFields": [entry(operation="Patch")]}), "one")


# --- apply ---


def test_applying_creates_an_object_owned_by_the_applied_fields() -> None:
    created = applying(None, tagged({"name": "t1", "reference": True, "from": None}), "g1")
    assert created == tagged(
        {"name": "t1", "reference": True, "from": None},
        managedFields=[
            {
                "manager": "g1",
                "operation": "Apply",
                "apiVersion": GV,
                "time": T2,
                "fieldsType": "FieldsV1",
                "fieldsV1": tag_owned("t1", "name", "reference"),
            }
        ],
    )


def test_what_two_apply_alike_they_own_together() -> None:
    one = applying(None, tagged({"name": "t1", "reference": True}), "g1")
    two = applying(one, tagged({"name": "t1", "reference": True, "from": image("x")}), "g2", T3)
    assert two["spec"] == {"tags": [{"name": "t1", "reference": True, "from": image("x")}]}
    assert owners(two) == {
        ("g1", "Apply"): tag_owned("t1", "name", "reference"),
        ("g2", "Apply"): tag_owned("t1", "from", "name", "reference"),
    }


def test_items_keep_their_places_and_new_ones_follow() -> None:
    live = tagged({"name": "b", "generation": 1}, {"name": "a", "generation": 2}, finalizers=["y"])
    merged = applying(live, tagged({"name": "c"}, {"name": "a", "reference": True}, finalizers=["x", "y"]), "m")
    assert merged["spec"]["tags"] == [
        {"name": "b", "generation": 1},
        {"name": "a", "generation": 2, "reference": True},
        {"name": "c"},
    ]
    assert merged["metadata"]["finalizers"] == ["y", "x"]


def test_applying_leaves_the_servers_fields_alone() -> None:
    live = stream({"namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2})
    merged = applying(live, stream({"uid": "v", "generation": 9, "deletionTimestamp": T1, "labels": {"a": "1"}}), "m")
    del merged["metadata"]["managedFields"]
    assert merged == stream(live["metadata"] | {"labels": {"a": "1"}})


def test_applying_null_is_not_applying() -> None:
    live = applying(None, tagged({"name": "a", "from": image("x")}, labels={"a": "1"}), "one")
    config = tagged({"name": "a", "from": None}, labels={"a": None}, annotations=None)
    merged = applying(live, config, "two")
    assert (merged["metadata"]["labels"], merged["spec"]) == ({"a": "1"}, live["spec"])
    assert owners(merged)["two", "Apply"] == {"f:metadata": {"f:labels": {}}} | tag_owned("a", "name")


def test_a_second_identical_apply_changes_nothing_not_even_a_time() -> None:
    config = tagged({"name": "latest", "from": image("x")}, labels={"a": "1"})
    live = applying(updated(None, tagged({"name": "old"}), "oc"), config, "m")
    assert applying(live, config, "m", T3) is live


def test_applying_nothing_over_nothing_changes_nothing() -> None:
    live = stream({"uid": "u"})
    assert applying(live, stream(), "m") is live


def test_only_a_change_renews_the_time() -> None:
    live = applying(None, stream({"labels": {"a": "1"}}), "one", T1)
    both = applying(live, stream({"labels": {"a": "1"}}), "two", T2)
    changed = applying(both, stream({"labels": {"a": "1", "b": "1"}}), "one", T3)
    assert [(e["manager"], e["time"]) for e in changed["metadata"]["managedFields"]] == [("two", T2), ("one", T3)]


def test_applying_under_another_version_keeps_one_entry() -> None:
    live = applying(None, stream({"labels": {"a": "1", "b": "1"}}), "m", T1)
    merged = apply(live, stream({"labels": {"a": "1"}}), manager="m", force=False, time=T2, api_version="v1")
    assert merged["metadata"]["labels"] == {"a": "1"}
    assert [(e["apiVersion"], e["time"]) for e in merged["metadata"]["managedFields"]] == [("v1", T2)]


def test_applying_to_a_subresource_is_accounted_for_apart() -> None:
    live = applying(None, stream({"labels": {"a": "1"}}), "m")
    status = stream(status={"dockerImageRepository": "r"})
    merged = apply(live, status, manager="m", force=False, time=T3, api_version=GV, subresource="status")
    assert merged["metadata"]["labels"] == {"a": "1"}
    assert [entry.get("subresource") for entry in merged["metadata"]["managedFields"]] == [None, "status"]


# --- what is no longer applied ---


def test_fields_no_longer_applied_go_with_the_maps_and_lists_that_this_empties() -> None:
    live = applying(None, tagged({"name": "latest", "from": image("x")}, labels={"a": "1"}, finalizers=["f"]), "m")
    merged = applying(live, stream(spec={"lookupPolicy": {"local": True}}), "m", T3)
    assert merged["spec"] == {"lookupPolicy": {"local": True}}
    assert merged["metadata"].keys() == {"name", "managedFields"}
    assert owners(merged) == {("m", "Apply"): {"f:spec": {"f:lookupPolicy": {"f:local": {}}}}}


def test_the_parts_that_every_object_has_stay_even_if_empty() -> None:
    live = applying(None, stream(spec={"lookupPolicy": {"local": True}}), "m")
    assert applying(live, stream(), "m") == stream(spec={"lookupPolicy": {}})


def test_a_field_that_somebody_else_owns_too_stays() -> None:
    one = applying(None, stream({"labels": {"a": "1", "b": "1"}}), "one")
    both = applying(one, stream({"labels": {"a": "1"}}), "two")
    merged = applying(both, stream(), "one", T3)
    assert merged["metadata"]["labels"] == {"a": "1"}
    assert owners(merged) == {("two", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}}}}}


def test_a_field_that_nobody_ever_applied_stays() -> None:
    live = applying(updated(None, stream({"labels": {"a": "1"}}), "oc"), stream({"labels": {"b": "1"}}), "m")
    assert applying(live, stream(), "m")["metadata"]["labels"] == {"a": "1"}


def test_an_emptied_map_stays_if_somebody_owns_it() -> None:
    live = applying(updated(None, stream({"labels": {"a": "1"}}), "oc"), stream({"labels": {"b": "1"}}), "m")
    without_a = deepcopy(live)
    del without_a["metadata"]["labels"]["a"]
    merged = applying(updated(live, without_a, "oc"), stream(), "m")
    assert merged["metadata"]["labels"] == {}
    assert owners(merged) == {("oc", "Update"): {"f:metadata": {"f:labels": {}}}}


def test_a_map_that_was_empty_before_stays() -> None:
    live = applying(None, stream({"labels": {"a": "1"}}), "m")
    live["metadata"]["annotations"] = {}
    assert applying(live, stream(), "m")["metadata"]["annotations"] == {}


def test_an_empty_map_can_be_applied_and_taken_back() -> None:
    live = applying(None, stream({"labels": {}}), "m")
    assert owners(live) == {("m", "Apply"): {"f:metadata": {"f:labels": {}}}}
    assert applying(live, stream(), "m") == stream()


def test_an_item_that_nobody_applies_goes_with_what_others_put_into_it() -> None:
    live = applying(None, tagged({"name": "a"}, {"name": "b"}), "m")
    generations = tagged({"name": "a", "generation": 1}, {"name": "b", "generation": 1})
    merged = applying(updated(live, generations, "server"), tagged({"name": "b"}), "m")
    assert merged["spec"]["tags"] == [{"name": "b", "generation": 1}]
    assert owners(merged) == {
        ("m", "Apply"): tag_owned("b", "name"),
        ("server", "Update"): {"f:spec": {"f:tags": {'k:{"name":"b"}': {"f:generation": {}}}}},
    }


def test_an_item_that_somebody_else_owns_stays_with_its_key() -> None:
    item = [("f:spec", "f:tags", 'k:{"name":"a"}')]
    live = applying(None, tagged({"name": "a", "reference": True}), "m")
    live["metadata"]["managedFields"].append(entry("other", "Apply", fieldsV1=encode_fields(item)))
    assert applying(live, stream(), "m")["spec"] == {"tags": [{"name": "a"}]}


# --- conflicts ---


def conflict(live: Object, applied: Object, manager: str) -> ApplyConflict:
    with pytest.raises(ApplyConflict) as caught:
        applying(live, applied, manager)
    return caught.value


def test_a_conflict_with_an_applier_names_the_field() -> None:
    live = applying(None, tagged({"name": "latest", "from": image("x")}), "m1")
    error = conflict(live, tagged({"name": "latest", "from": image("y")}), "m2")
    assert str(error) == 'Apply failed with 1 conflict: conflict with "m1": .spec.tags[name="latest"].from'
    [cause] = error.causes
    assert (cause.message, cause.field) == ('conflict with "m1"', '.spec.tags[name="latest"].from')
    assert (cause.manager, cause.operation, cause.api_version) == ("m1", "Apply", GV)


def test_a_conflict_with_another_writer_names_the_version_too() -> None:
    live = updated(None, stream({"annotations": {"example.com/a": "1"}}), "oc")
    error = conflict(live, stream({"annotations": {"example.com/a": "2"}}), "m")
    assert str(error) == (
        'Apply failed with 1 conflict: conflict with "oc" using image.openshift.io/v1: '
        ".metadata.annotations.example.com/a"
    )
    assert error.causes[0].message == 'conflict with "oc" using image.openshift.io/v1'


def test_a_conflict_with_a_writer_of_a_subresource_names_that_too() -> None:
    live = updated(None, stream(status={"dockerImageRepository": "a"}), "oc", subresource="status")
    error = conflict(live, stream(status={"dockerImageRepository": "b"}), "m")
    assert error.causes[0].message == 'conflict with "oc" with subresource "status" using image.openshift.io/v1'


def test_several_conflicts_are_listed_by_owner() -> None:
    live = applying(None, stream({"labels": {"c": "1", "a": "1"}}), "m1")
    live = applying(live, stream({"labels": {"b": "1"}}), "m2")
    error = conflict(live, stream({"labels": {"a": "2", "b": "2", "c": "2"}}), "m3")
    assert str(error) == (
        'Apply failed with 3 conflicts: conflicts with "m1":\n- .metadata.labels.a\n- .metadata.labels.c\n'
        'conflicts with "m2":\n- .metadata.labels.b'
    )
    assert [cause.field for cause in error.causes] == [f".metadata.labels.{name}" for name in "acb"]


def test_forced_the_others_lose_just_the_fields_in_conflict() -> None:
    live = applying(None, stream({"labels": {"a": "1", "b": "1", "c": "1"}}), "m1")
    merged = applying(live, stream({"labels": {"a": "2", "b": "1"}}), "m2", force=True)
    assert merged["metadata"]["labels"] == {"a": "2", "b": "1", "c": "1"}
    assert owners(merged) == {
        ("m1", "Apply"): {"f:metadata": {"f:labels": {"f:b": {}, "f:c": {}}}},
        ("m2", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}},
    }


def test_who_applies_a_field_alone_may_change_it() -> None:
    live = applying(None, stream({"labels": {"a": "1"}}), "m")
    assert applying(live, stream({"labels": {"a": "2"}}), "m")["metadata"]["labels"] == {"a": "2"}


def test_what_was_there_before_anybody_kept_account_is_not_overruled_unasked() -> None:
    live = stream({"labels": {"a": "1", "b": "1"}})
    error = conflict(live, stream({"labels": {"a": "2"}}), "m")
    assert error.causes[0].message == 'conflict with "before-first-apply" using image.openshift.io/v1'
    merged = applying(live, stream({"labels": {"a": "1"}}), "m")
    assert owners(merged) == {
        ("m", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}}}},
        ("before-first-apply", "Update"): {"f:metadata": {"f:labels": {".": {}, "f:a": {}, "f:b": {}}}},
    }


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def client_side_applied(labels: Object, last_applied: str | None = None) -> Object:
    config = last_applied or json.dumps(stream({"labels": labels}))
    live = stream({"labels": labels, "annotations": {LAST_APPLIED: config}})
    return updated(None, live, "kubectl-client-side-apply")


def test_kubectl_may_change_what_it_last_applied_from_the_client_side() -> None:
    live = client_side_applied({"a": "1", "b": "1"})
    merged = applying(live, stream({"labels": {"a": "2"}}), "kubectl")
    assert merged["metadata"]["labels"] == {"a": "2", "b": "1"}
    assert owners(merged)["kubectl", "Apply"] == {"f:metadata": {"f:labels": {"f:a": {}}}}


def test_no_other_manager_may() -> None:
    assert conflict(client_side_applied({"a": "1"}), stream({"labels": {"a": "2"}}), "helm").causes


@pytest.mark.parametrize(
    "last_applied", ["", "{", "[]", "7", "null", '{"metadata":7}', "[" * 100_000, '{"a":' * 50_000]
)
def test_a_last_applied_configuration_that_makes_no_sense_allows_nothing(last_applied: str) -> None:
    live = client_side_applied({"a": "1"}, last_applied or " ")
    assert conflict(live, stream({"labels": {"a": "2"}}), "kubectl").causes


def test_what_kubectl_did_not_apply_last_stays_in_conflict() -> None:
    live = client_side_applied({"a": "1"})
    live = updated(live, stream(live["metadata"] | {"labels": {"a": "1", "b": "1"}}), "oc")
    error = conflict(live, stream({"labels": {"a": "2", "b": "2"}}), "kubectl")
    assert [cause.field for cause in error.causes] == [".metadata.labels.b"]


def test_kubectl_moves_an_object_from_client_side_to_server_side_apply() -> None:
    created = client_side_applied({"a": "1", "b": "1"})
    config = stream({"labels": {"a": "2"}})
    applied = applying(created, config, "kubectl")
    annotated = applying(applied, stream({"annotations": {LAST_APPLIED: "{}"}}), "kubectl-last-applied", T2, force=True)
    migrated = deepcopy(annotated)
    for item in migrated["metadata"]["managedFields"]:
        if item["manager"] == "kubectl-client-side-apply":
            item |= {"manager": "kubectl", "operation": "Apply"}
    migrated = updated(annotated, migrated, "kubectl", T3)
    final = applying(migrated, config, "kubectl", T3)
    assert final["metadata"]["labels"] == {"a": "2"}
    assert owners(final) == {
        ("kubectl", "Apply"): {"f:metadata": {"f:labels": {"f:a": {}}}},
        ("kubectl-last-applied", "Apply"): {"f:metadata": {"f:annotations": {f"f:{LAST_APPLIED}": {}}}},
    }


# --- what cannot be applied ---


def test_applying_managed_fields_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metadata\.managedFields must be nil"):
        applying(None, stream({"managedFields": []}), "m")


@pytest.mark.parametrize("items", [[{"name": "a"}, {"name": "a"}], [{}], ["a"], [{"name": 7}]], ids=str)
def test_applying_items_that_cannot_be_told_apart_is_refused(items: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"\.spec\.tags: every item needs a name of its own"):
        applying(stream(), stream(spec={"tags": items}), "m")


# --- properties ---

elements = (
    st.text(max_size=3).map("f:{}".format)
    | st.text(max_size=3).map(lambda name: f"k:{json.dumps({'name': name}, separators=(',', ':'), ensure_ascii=False)}")
    | st.text(max_size=3).map(lambda value: f"v:{json.dumps(value, ensure_ascii=False)}")
    | st.integers(0, 9).map("i:{}".format)
)
paths = st.lists(elements, min_size=1, max_size=4).map(tuple)


@given(st.sets(paths))
def test_paths_encode_and_decode_to_themselves(these: set[Path]) -> None:
    encoded = encode_fields(these)
    assert decode_fields(json.loads(json.dumps(encoded))) == these
    assert encode_fields(decode_fields(encoded)) == encoded


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | elements | st.just("."), inner, max_size=3)
    ),
)


@given(anything | st.lists(anything.map(lambda fields: entry(fieldsV1=fields)), max_size=2))
def test_any_managed_fields_are_accepted_in_one_form_or_refused(managed_fields: Any) -> None:
    try:
        accepted = validate(managed_fields)
    except ValueError:
        return
    assert validate(accepted) == accepted


managers = st.sampled_from(["ann", "bob", "kubectl"])
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), min_size=1, max_size=3)
tags = st.dictionaries(
    st.sampled_from(["latest", "v1"]),
    st.fixed_dictionaries({}, optional={"from": st.sampled_from("xy").map(image), "annotations": labels}),
    min_size=1,
)


@st.composite
def streams(draw: st.DrawFn) -> Object:
    made = stream()
    if draw(st.booleans()):
        made["metadata"]["labels"] = draw(labels)
    if draw(st.booleans()):
        made["metadata"]["finalizers"] = draw(st.lists(st.sampled_from("fg"), min_size=1, unique=True))
    if draw(st.booleans()):
        made["spec"] = {"tags": [{"name": name, **tag} for name, tag in draw(tags).items()]}
    return made


def leaves(thing: Object) -> dict[Path, Any]:
    """The fields of one of the streams above, with their values."""
    found: dict[Path, Any] = {}
    for name, value in thing["metadata"].get("labels", {}).items():
        found["f:metadata", "f:labels", f"f:{name}"] = value
    for name in thing["metadata"].get("finalizers", []):
        found["f:metadata", "f:finalizers", f'v:"{name}"'] = name
    for tag in thing.get("spec", {}).get("tags", []):
        at = ("f:spec", "f:tags", f'k:{{"name":"{tag["name"]}"}}')
        found |= {(*at, f"f:{field}"): tag[field] for field in ("name", "from") if field in tag}
        found |= {(*at, "f:annotations", f"f:{k}"): v for k, v in tag.get("annotations", {}).items()}
    return found


def owned_leaves(thing: Object) -> dict[tuple[str, str], set[Path]]:
    return {owner: decode_fields(fields) & leaves(thing).keys() for owner, fields in owners(thing).items()}


@st.composite
def histories(draw: st.DrawFn, applies: bool = True) -> Object:
    """A stream after some writes."""
    live: Object | None = None
    for second in range(draw(st.integers(1, 5))):
        written, manager, time = draw(streams()), draw(managers), f"2025-01-01T00:00:0{second}Z"
        if applies and draw(st.booleans()):
            live = applying(live, written, manager, time, force=True)
        else:
            live = updated(live, written, manager, time)
    assert live is not None
    return live


@given(histories(applies=False))
def test_after_updates_every_field_has_exactly_one_owner(live: Object) -> None:
    shares = owned_leaves(live).values()
    assert set().union(*shares) == leaves(live).keys()
    assert sum(map(len, shares)) == len(leaves(live))


@given(histories(), streams(), managers)
def test_an_update_owns_what_it_changed_and_takes_nothing_else(live: Object, new: Object, manager: str) -> None:
    before, after = owned_leaves(live), owned_leaves(updated(live, new, manager, T3))
    had, has = leaves(live), leaves(new)
    changed = {path for path in has if had.get(path) != has[path]}
    me = (manager, "Update")
    assert after.pop(me, set()) == changed | (before.pop(me, set()) & has.keys() - changed)
    assert {owner: share for owner, share in after.items() if share} == {
        owner: share & has.keys() - changed for owner, share in before.items() if share & has.keys() - changed
    }


@given(histories(), streams(), managers)
def test_forced_apply_sets_owns_and_shares_only_what_is_alike(live: Object, config: Object, manager: str) -> None:
    original = deepcopy(live), deepcopy(config)
    merged = applying(live, config, manager, T3, force=True)
    assert (live, config) == original
    had, wanted, has = leaves(live), leaves(config), leaves(merged)
    assert wanted.items() <= has.items()
    before, after = owned_leaves(live), owned_leaves(merged)
    me = (manager, "Apply")
    assert after.pop(me, set()) == wanted.keys()
    overruled = {path for path in wanted if path in had and had[path] != wanted[path]}
    for owner, share in before.items():
        if owner != me:
            assert after.get(owner, set()) == share & has.keys() - overruled


@given(histories(), streams(), managers)
def test_what_goes_was_applied_before_and_is_neither_applied_nor_owned_by_others(
    live: Object, config: Object, manager: str
) -> None:
    merged = applying(live, config, manager, T3, force=True)
    shares = {owner: decode_fields(fields) for owner, fields in owners(live).items()}
    mine = shares.pop((manager, "Apply"), set())
    others: set[Path] = set().union(*shares.values())
    had, wanted, has = leaves(live), leaves(config), leaves(merged)
    items = {path[:3] for path in mine if path[0] == "f:spec"} - others - {path[:3] for path in wanted}
    kept_keys = {path for path in had if path[-1] == "f:name" and path[:3] not in items}
    gone = {path for path in had if path[:3] in items or (path in mine - others and path not in wanted)}
    assert has.keys() == (had.keys() | wanted.keys()) - (gone - kept_keys)


@given(histories(), streams(), managers.filter(lambda name: name != "kubectl"))
def test_conflicts_are_the_fields_of_others_that_would_change(live: Object, config: Object, manager: str) -> None:
    had, wanted = leaves(live), leaves(config)
    expected = sorted(
        (owner, len(path))
        for owner, share in owned_leaves(live).items()
        if owner != (manager, "Apply")
        for path in share
        if path in wanted and had[path] != wanted[path]
    )
    try:
        merged = applying(live, config, manager, T3)
    except ApplyConflict as error:
        conflicts = sorted(((c.manager, c.operation), len(c.field.replace("[", ".").split("."))) for c in error.causes)
        assert [owner for owner, _ in conflicts] == [owner for owner, _ in expected]
        assert expected
    else:
        assert not expected
        assert merged == applying(live, config, manager, T3, force=True)


@given(histories(), streams(), managers)
def test_applying_twice_is_applying_once(live: Object, config: Object, manager: str) -> None:
    once = applying(live, config, manager, T2, force=True)
    assert applying(once, config, manager, T3) is once


def containers(thing: Object) -> set[Path]:
    """The maps and lists of one of the streams above, and the items in its lists."""
    found: set[Path] = {("f:metadata", f"f:{name}") for name in ("labels", "finalizers") if name in thing["metadata"]}
    found |= {("f:spec", f"f:{name}") for name in thing.get("spec", {})}
    for tag in thing.get("spec", {}).get("tags", []):
        at = ("f:spec", "f:tags", f'k:{{"name":"{tag["name"]}"}}')
        found |= {at, (*at, "f:annotations")} if "annotations" in tag else {at}
    return found


@given(histories())
def test_nobody_owns_what_is_not_there_and_the_list_is_in_its_form(live: Object) -> None:
    entries = live["metadata"].get("managedFields", [])
    assert validate(entries) == entries
    for fields in owners(live).values():
        assert decode_fields(fields) <= leaves(live).keys() | containers(live)


# --- through the API


def test_a_tag_that_is_applied_counts_as_an_update_of_its_stream(client: FlaskClient) -> None:
    group = "/apis/image.openshift.io/v1/namespaces/shop"
    client.post(f"{group}/imagestreams", json={"metadata": {"name": "web"}})
    body = "kind: ImageStreamTag\nmetadata: {name: 'web:a'}\ntag: {from: {kind: DockerImage, name: example.test/a}}"
    applied = client.patch(
        f"{group}/imagestreamtags/web:a?fieldManager=me", data=body, content_type="application/apply-patch+yaml"
    )
    assert applied.status_code == 201
    (entry,) = client.get(f"{group}/imagestreams/web").json["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], list(entry["fieldsV1"])) == ("me", "Update", ["f:spec"])
