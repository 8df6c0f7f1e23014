import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.negotiation import Form, negotiate

PLAIN = (Form.JSON, Form.YAML)
OBJECT = (*PLAIN, Form.TABLE, Form.PARTIAL_OBJECT)
LIST = (*PLAIN, Form.TABLE, Form.PARTIAL_OBJECT_LIST)
DISCOVERY = (*PLAIN, Form.DISCOVERY_V2, Form.DISCOVERY_V2BETA1)
OPENAPI = (Form.JSON, Form.OPENAPI_V2_PROTOBUF)

KUBECTL_GET = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
KUBECTL_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.mark.parametrize(
    ("accept", "offers", "form"),
    [
        (None, OBJECT, Form.JSON),
        ("", OBJECT, Form.JSON),
        ("  ", OBJECT, Form.JSON),
        ("*/*", OBJECT, Form.JSON),
        ("application/*", OBJECT, Form.JSON),
        ("application/json", OBJECT, Form.JSON),
        ("Application/JSON", OBJECT, Form.JSON),
        ("application/json; charset=utf-8", OBJECT, Form.JSON),
        ("application/json;stream=watch", OBJECT, Form.JSON),
        ("application/json, */*", OBJECT, Form.JSON),
        ("application/yaml", OBJECT, Form.YAML),
        ("application/yaml,application/json", OBJECT, Form.YAML),
        (KUBECTL_GET, OBJECT, Form.TABLE),
        ("application/json; g=meta.k8s.io ; v=v1; as=Table", OBJECT, Form.TABLE),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", OBJECT, Form.JSON),
        (KUBECTL_GET, PLAIN, Form.JSON),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", OBJECT, Form.PARTIAL_OBJECT),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", LIST, Form.PARTIAL_OBJECT_LIST),
        (KUBECTL_DISCOVERY, DISCOVERY, Form.DISCOVERY_V2),
        (KUBECTL_DISCOVERY, (*PLAIN, Form.DISCOVERY_V2BETA1), Form.DISCOVERY_V2BETA1),
        (KUBECTL_DISCOVERY, PLAIN, Form.JSON),
        ("application/vnd.kubernetes.protobuf,application/json", OBJECT, Form.JSON),
        ("application/cbor,application/json", OBJECT, Form.JSON),
        ("application/json", (Form.TABLE, Form.JSON), Form.JSON),
        (OPENAPI_V2, OPENAPI, Form.OPENAPI_V2_PROTOBUF),
        ("*/*", OPENAPI, Form.JSON),
    ],
)
def test_the_first_entry_that_can_be_answered_decides(accept: str | None, offers: tuple[Form, ...], form: Form) -> None:
    assert negotiate(accept, offers) is form


@pytest.mark.parametrize(
    ("accept", "offers"),
    [
        ("text/html", OBJECT),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", OBJECT),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", PLAIN),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", LIST),
        ("application/vnd.kubernetes.protobuf", OBJECT),
        (OPENAPI_V2, PLAIN),
        (",", OBJECT),
        (";;=,=;", OBJECT),
    ],
)
def test_nothing_is_acceptable(accept: str, offers: tuple[Form, ...]) -> None:
    assert negotiate(accept, offers) is None


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/json;q=0", None),
        ("application/json;q=0.000, application/yaml", Form.YAML),
        ("application/json;q=0, */*", Form.YAML),
        ("*/*, application/json;q=0", Form.YAML),
        ("*/*;q=0", None),
        ("application/json, */*;q=0", Form.JSON),
        ("application/json;q=0.1, application/yaml;q=0.9", Form.JSON),
        ("application/json;q=rubbish", Form.JSON),
    ],
)
def test_of_the_weights_only_zero_counts(accept: str, form: Form | None) -> None:
    assert negotiate(accept, PLAIN) is form


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (Form.JSON, "application/json"),
        (Form.TABLE, "application/json"),
        (Form.PARTIAL_OBJECT, "application/json"),
        (Form.YAML, "application/yaml"),
        (Form.DISCOVERY_V2, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        (Form.DISCOVERY_V2BETA1, "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
        (Form.OPENAPI_V2_PROTOBUF, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
    ],
)
def test_every_form_has_its_content_type(form: Form, content_type: str) -> None:
    assert form.content_type == content_type


def test_a_very_long_header_is_answered_too() -> None:
    assert negotiate("text/html," * 10_000 + "application/yaml", PLAIN) is Form.YAML


headers = st.lists(
    st.sampled_from(["application/json", "application/yaml", "*/*", "as=Table", "v=v1", "g=meta.k8s.io", "q=0"])
    | st.sampled_from([",", ";", "=", " "])
    | st.text(max_size=5)
).map("".join)


@given(headers)
def test_whatever_the_header_the_answer_is_one_of_the_offers_or_none(accept: str) -> None:
    assert negotiate(accept, OBJECT) in {*OBJECT, None}


@given(headers)
def test_a_header_that_ends_in_json_is_always_answered(accept: str) -> None:
    if "q=0" not in accept:
        assert negotiate(f"{accept},application/json", OBJECT) is not None
