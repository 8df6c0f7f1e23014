"""The straight way to a resource leads where Flask's rules lead."""

import gc
import weakref
from io import BytesIO
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect
from werkzeug.test import EnvironBuilder

from api.groups import GROUPS
from api.routes import METHODS, Straight

PREFIXES = [door.prefix for door in GROUPS]
NAMES = sorted({resource.name for resources in GROUPS.values() for resource in resources})
SEGMENT = st.sampled_from([*NAMES, "namespaces", "watch", "status", "v1", "apis", "oapi"]) | st.text(max_size=3)


@pytest.fixture
def straight(client: FlaskClient) -> Straight:
    return Straight(None, client.application.extensions["imagestream"], GROUPS)


@pytest.fixture
def adapter(client: FlaskClient) -> MapAdapter:
    return client.application.url_map.bind("localhost")


def _by_rule(adapter: MapAdapter, method: str, path: str) -> tuple[str, dict[str, str]] | None:
    try:
        endpoint, values = adapter.match(path, method)
    except (HTTPException, RequestRedirect):
        return None
    return endpoint, dict(values)


def test_it_leads_where_the_rules_lead_or_leaves_it_to_them(straight: Straight, adapter: MapAdapter) -> None:
    @given(
        st.sampled_from([*PREFIXES, "", "/apis/other/v1"]),
        st.lists(SEGMENT, max_size=6),
        st.sampled_from(METHODS),
    )
    def holds(prefix: str, segments: list[str], method: str) -> None:
        path = "/".join([prefix, *segments])
        found = straight.find(path)
        if found is None:
            return
        door, resource, namespace, name, sub = found
        scope = "/namespaces/<namespace>" if namespace else ""
        tail = "/<name>/<sub>" if sub else "/<name>" if name else ""
        values = {"namespace": namespace, "name": name, "sub": sub}
        rule = f"{door.prefix}{scope}/{resource.name}{tail}"
        assert _by_rule(adapter, method, path) == (rule, {key: value for key, value in values.items() if value})

    holds()


@pytest.mark.parametrize("prefix", ["/apis/image.openshift.io/v1", "/oapi/v1"])
@pytest.mark.parametrize(
    ("tail", "namespace", "name", "sub"),
    [
        ("/imagestreams", "", "", ""),
        ("/images/sha256:0a", "", "sha256:0a", ""),
        ("/namespaces/shop/imagestreams", "shop", "", ""),
        ("/namespaces/shop/imagestreams/cart", "shop", "cart", ""),
        ("/namespaces/shop/imagestreams/cart/status", "shop", "cart", "status"),
        ("/namespaces/shop/imagestreamtags/cart:latest", "shop", "cart:latest", ""),
        ("/namespaces/shop/imagestreammappings", "shop", "", ""),
    ],
)
def test_it_takes_what_clients_ask_for(
    straight: Straight, prefix: str, tail: str, namespace: str, name: str, sub: str
) -> None:
    found = straight.find(prefix + tail)

    assert found is not None
    assert (found[0].prefix, *found[2:]) == (prefix, namespace, name, sub)
    assert found[1].name in tail


@pytest.mark.parametrize(
    "path",
    [
        "/apis/image.openshift.io/v1",
        "/apis/image.openshift.io/v1/imagestreams/",
        "/apis/image.openshift.io/v1//imagestreams",
        "/apis/image.openshift.io/v1/watch/imagestreams",
        "/apis/image.openshift.io/v1/namespaces/shop/images",
        "/apis/image.openshift.io/v1/namespaces/shop/imagestreams/cart/status/more",
        "/apis/image.openshift.io/v1/namespaces/shop/imagestreams/caf\xc3\xa9",
        "/healthz",
    ],
)
def test_everything_else_is_left_to_the_rules(straight: Straight, path: str) -> None:
    assert straight.find(path) is None


def test_a_name_is_told_as_it_was_asked_for(client: FlaskClient) -> None:
    for name in ("café", "€", "%2B"):
        answer = client.get(f"/apis/image.openshift.io/v1/namespaces/shop/imagestreams/{name}")
        assert answer.json["details"]["name"] == unquote(name)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_is_gone_with_its_body_when_it_is_answered(client: FlaskClient, method: str) -> None:
    body = BytesIO(b'{"metadata":{"name":"web"}}')
    path = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams"
    environ = EnvironBuilder(path, method=method, input_stream=body, content_length=27).get_environ()
    seen = weakref.ref(body)
    gc.disable()
    try:
        assert b"".join(client.application(environ, lambda *_: None))
        del body, environ
        assert seen() is None
    finally:
        gc.enable()
