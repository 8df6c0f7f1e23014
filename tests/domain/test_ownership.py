"""What an event tells of managedFields is what changed, and is enough to have all of them again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.domain.ownership import difference, merged

NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', "."])
TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}), lambda children: st.dictionaries(NAMES, children, min_size=1, max_size=3), max_leaves=8
).filter(bool)
TIMES = {0: "1970-01-01T00:00:00Z", 1: "1970-01-01T00:00:01Z"}


@st.composite
def entries(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    found = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "manager": st.sampled_from(["oc", "kubectl"]),
                    "operation": st.sampled_from(["Apply", "Update"]),
                    "apiVersion": st.just("v1"),
                    "fieldsType": st.just("FieldsV1"),
                    "fieldsV1": TREES,
                },
                optional={"time": st.sampled_from(list(TIMES.values()))},
            ),
            unique_by=lambda entry: (entry["manager"], entry["operation"]),
        )
    )
    return tuple(sorted(found, key=lambda e: (e["operation"], e.get("time", ""), e["manager"])))


@given(entries(), entries(), st.sampled_from([0, 1]))
def test_the_entries_after_an_event_follow_from_those_before_and_what_it_tells(old, new, at: int) -> None:
    assert merged(old, difference(old, new, at), at) == new


@given(entries(), st.sampled_from([0, 1]))
def test_what_did_not_change_is_not_told(found, at: int) -> None:
    assert difference(found, found, at) == ()


def test_one_more_field_costs_one_field_whatever_is_owned_already() -> None:
    def owning(*tags: str) -> tuple[dict[str, Any], ...]:
        fields = {"f:spec": {"f:tags": {f'k:{{"name":"{tag}"}}': {".": {}, "f:from": {}} for tag in tags}}}
        head = {"manager": "oc", "operation": "Update", "apiVersion": "v1"}
        return ({**head, "time": TIMES[1], "fieldsType": "FieldsV1", "fieldsV1": fields},)

    (change,) = difference(owning("a", "b"), owning("a", "b", "c"), 1)
    assert change == {
        "manager": "oc",
        "operation": "Update",
        "apiVersion": "v1",
        "gained": {"f:spec": {"f:tags": {'k:{"name":"c"}': {".": {}, "f:from": {}}}}},
    }
