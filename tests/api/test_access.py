"""Every verb on every resource by every sort of caller: what may be done, told by a table, and ways round it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from joserfc import jwk, jws

from api import create_app
from imagestream_es.settings import Settings, SettingsError

IMAGE = "/apis/image.openshift.io/v1"
ISSUER = "https://issuer.example.com"
KEY = jwk.RSAKey.generate_key(2048, {"kid": "k1"})

USERS = {"viewer": "view", "editor": "edit", "pusher": "image-pusher", "admin": "admin"}
"""Who has which role in the namespace `team`."""
TOKENS = (
    "".join(f"{name}-token,{name},\n" for name in [*USERS, "other", "namer", "updater", "helper"])
    + 'root-token,root,,"system:masters"\n'
)
BINDING = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {user}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}
subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {user}}}]
---
"""
NAMED = """apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: named, namespace: team}
rules:
- {verbs: ["*"], apiGroups: [image.openshift.io], resources: [imagestreams], resourceNames: [web]}
- {verbs: [create], apiGroups: [history.imagestream-es.io], resources: [rollbacks]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: named, namespace: team}
roleRef: {kind: Role, name: named}
subjects: [{kind: User, name: namer}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: updates, namespace: team}
rules:
- {verbs: [get, patch, update], apiGroups: [image.openshift.io], resources: [imagestreams, imagestreamtags, imagetags]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: updates, namespace: team}
roleRef: {kind: Role, name: updates}
subjects: [{kind: User, name: updater}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: helpers}
rules:
- {verbs: [impersonate], apiGroups: [""], resources: [users], resourceNames: [viewer, editor]}
- {verbs: [impersonate], apiGroups: [""], resources: [groups], resourceNames: [devs]}
- {verbs: [impersonate], apiGroups: [authentication.k8s.io], resources: [userextras/why], resourceNames: [ticket]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: helpers}
roleRef: {kind: ClusterRole, name: helpers}
subjects: [{kind: User, name: helper}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: robots, namespace: team}
rules:
- {verbs: [impersonate], apiGroups: [""], resources: [serviceaccounts]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robots, namespace: team}
roleRef: {kind: Role, name: robots}
subjects: [{kind: User, name: helper}]
"""


def signed(**claims: Any) -> str:
    told = {"iss": ISSUER, "aud": "streams", "sub": "oidc", "exp": int(time.time()) + 3600, **claims}
    return jws.serialize_compact({"alg": "RS256", "kid": "k1"}, json.dumps(told), KEY)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    directory = tmp_path_factory.mktemp("access")
    (directory / "tokens").write_text(TOKENS)
    (directory / "keys").write_bytes(orjson.dumps({"keys": [KEY.as_dict(private=False)]}))
    (directory / "rbac").mkdir()
    bindings = [BINDING.format(user=user, namespace="team", role=role) for user, role in USERS.items()]
    bindings.append(BINDING.format(user="other", namespace="elsewhere", role="admin"))
    (directory / "rbac" / "rules.yaml").write_text("".join(bindings) + NAMED)
    settings = Settings(
        data_dir=directory / "data",
        import_controller="off",
        access_log="off",
        token_auth_file=directory / "tokens",
        rbac=directory / "rbac",
        oidc_issuer_url=ISSUER,
        oidc_client_id="streams",
        oidc_groups_claim="groups",
        oidc_jwks_file=directory / "keys",
        external_registry="registry.example.com",
    )
    app = create_app(settings)
    client = app.test_client()
    for namespace in ("team", "elsewhere"):
        body = {"metadata": {"name": "web"}, "spec": {"tags": [{"name": "latest"}]}}
        answer = client.post(f"{IMAGE}/namespaces/{namespace}/imagestreams", json=body, headers=bearer("root-token"))
        assert answer.status_code == 201
    yield client
    app.extensions["imagestream"].close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


CALLERS: dict[str, Callable[[], dict[str, str]]] = {
    "none": dict,
    "wrong": lambda: bearer("no-such-token"),
    "expired": lambda: bearer(signed(exp=int(time.time()) - 10)),
    **{name: lambda name=name: bearer(f"{name}-token") for name in ("other", *USERS)},  # type: ignore[misc]
}
ALL = ("viewer", "editor", "admin")
WRITERS = ("editor", "admin")
EVERYBODY = ("other", "pusher", *ALL)
READ = {"get": ALL, "list": ALL, "watch": ALL}
WRITE = dict.fromkeys(("create", "update", "patch", "delete", "deletecollection"), WRITERS)
NOBODY = dict.fromkeys(("get", "list", "watch", *WRITE), ())

ALLOWED: dict[str, dict[str, tuple[str, ...]]] = {
    "image.openshift.io/images": NOBODY,
    "image.openshift.io/imagesignatures": NOBODY,
    "image.openshift.io/imagestreamimages": READ,
    "image.openshift.io/imagestreamimports": {"create": WRITERS},
    "image.openshift.io/imagestreammappings": {"create": WRITERS},
    "image.openshift.io/imagestreams": READ | WRITE,
    "image.openshift.io/imagestreams/layers": {"get": ("editor", "admin", "pusher")},
    "image.openshift.io/imagestreams/secrets": {"get": WRITERS},
    "image.openshift.io/imagestreams/status": {"get": ALL, "update": (), "patch": ()},
    "image.openshift.io/imagestreamtags": READ | WRITE,
    "image.openshift.io/imagetags": READ | WRITE,
    "history.imagestream-es.io/tagchanges": READ,
    "history.imagestream-es.io/imageusages": READ,
    "history.imagestream-es.io/diffs": READ,
    "history.imagestream-es.io/rollbacks": {"create": WRITERS},
    "/events": READ,
    "/namespaces": {"get": ALL, "list": (), "create": ()},
    "/ungroupedimagestreams": READ | WRITE,
    "authentication.k8s.io/selfsubjectreviews": {"create": EVERYBODY},
    "authorization.k8s.io/selfsubjectaccessreviews": {"create": EVERYBODY},
    "authorization.k8s.io/selfsubjectrulesreviews": {"create": EVERYBODY},
    "authorization.k8s.io/subjectaccessreviews": {"create": ()},
    "authorization.k8s.io/localsubjectaccessreviews": {"create": ("admin",)},
    "user.openshift.io/users": {"get": ()},
}
"""Who may do what in `team`, for each verb of each resource that discovery tells. What is not here has no rule."""

METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}


def offered(client: FlaskClient) -> Iterator[tuple[str, str, bool]]:
    """Group version, resource and whether it has a namespace, of all that discovery tells, with their verbs."""
    prefixes = ["/api/v1", "/oapi/v1"]
    groups = client.get("/apis", headers=bearer("root-token")).get_json()["groups"]
    prefixes += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups]
    for prefix in prefixes:
        for resource in client.get(prefix, headers=bearer("root-token")).get_json()["resources"]:
            for verb in resource["verbs"]:
                yield prefix, f"{resource['name']} {verb}", resource["namespaced"]


def path_of(prefix: str, resource: str, verb: str, namespaced: bool, namespace: str) -> str:
    name, _, sub = resource.partition("/")
    where = f"/namespaces/{namespace}" if namespaced else ""
    path = f"{prefix}{where}/{name}"
    if sub or verb in ("get", "update", "patch", "delete"):
        path += f"/{namespace if name == 'namespaces' else 'none'}"
    if sub:
        path += f"/{sub}"
    return path + ("?watch=1&timeoutSeconds=1&sendInitialEvents=false" if verb == "watch" else "")


@pytest.mark.parametrize(
    ("setting", "file", "text", "problem"),
    [
        ("rbac", "rbac/r.yaml", "kind: Role\n", "rbac/r.yaml, line 1: Role of None is no Role"),
        ("rbac", "rbac/r.yaml", BINDING.format(user="u", namespace="n", role="view") * 2, "line 7: there is a"),
        ("rbac", "rbac/r.yaml", "a: b\n  c: [\n", "rbac/r.yaml, line 2"),
        ("rbac", None, None, "rbac: not a directory"),
        ("token_auth_file", "tokens", "one,two\n", "tokens, line 1: needed are token,user,uid"),
        ("token_auth_file", None, None, "No such file"),
        ("oidc_jwks_file", "keys", "[]", "no JSON web key set"),
        ("oidc_ca_file", "ca", "no certificate", "holds no certificate"),
    ],
)
def test_what_is_wrong_at_the_start_is_told_with_its_file_and_line(
    tmp_path: Path, setting: str, file: str | None, text: str | None, problem: str
) -> None:
    (tmp_path / "good").write_text("t,u,1\n")
    if file is not None and text is not None:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    place = tmp_path / ("rbac" if setting == "rbac" else file or "nothing")
    given: dict[str, Any] = {"token_auth_file": tmp_path / "good", setting: place}
    if setting.startswith("oidc"):
        given |= {"oidc_issuer_url": ISSUER, "oidc_client_id": "streams"}
    with pytest.raises(SettingsError) as refusal:
        create_app(Settings(data_dir=tmp_path / "data", **given))
    assert f"--{setting.replace('_', '-')}" in str(refusal.value)
    assert problem in str(refusal.value)
    assert not (tmp_path / "data").exists()


def test_every_verb_on_every_resource_has_its_rule(client: FlaskClient) -> None:
    wrong = []
    for prefix, what, namespaced in offered(client):
        resource, verb = what.split()
        group = "image.openshift.io" if prefix == "/oapi/v1" else prefix.split("/")[2] if prefix != "/api/v1" else ""
        row = ALLOWED.get(f"{group}/{resource}")
        assert row is not None, f"{group}/{resource} is new: say in the table who may do what with it"
        assert verb in row, f"{verb} of {group}/{resource} is new: say in the table who may do it"
        path = path_of(prefix, resource, verb, namespaced, "team")
        for caller, credentials in CALLERS.items():
            if verb == "watch" and caller in row[verb]:
                continue  # it would be open; other tests watch
            # A dry run is decided alike.
            separator = "&" if "?" in path else "?"
            answer = client.open(f"{path}{separator}dryRun=All", method=METHODS[verb], headers=credentials())
            expected = (401,) if caller in ("none", "wrong", "expired") else (403,)
            refused = caller not in row[verb]
            if refused != (answer.status_code in (401, 403)) or (refused and answer.status_code not in expected):
                wrong.append((caller, verb, path, answer.status_code))
            if answer.status_code >= 500:
                wrong.append((caller, verb, path, answer.status_code))
            answer.close()
    assert not wrong


def test_a_refusal_hides_what_is_there(client: FlaskClient) -> None:
    found = [
        client.get(f"{IMAGE}/namespaces/elsewhere/imagestreams/{name}", headers=bearer("viewer-token"))
        for name in ("web", "none")
    ]
    assert [answer.status_code for answer in found] == [403, 403]
    texts = [answer.get_data(as_text=True).replace("none", "web") for answer in found]
    assert texts[0] == texts[1]
    assert found[0].get_json()["message"] == (
        'imagestreams.image.openshift.io "web" is forbidden: User "viewer" cannot get resource "imagestreams" '
        'in API group "image.openshift.io" in the namespace "elsewhere"'
    )


def test_what_is_wrong_with_a_credential_is_not_told(client: FlaskClient) -> None:
    answer = client.get(f"{IMAGE}/images", headers=bearer("wrong"))
    assert answer.status_code == 401
    assert answer.get_json()["message"] == "Unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


TARGET = f"{IMAGE}/namespaces/elsewhere/imagestreams/web"


@pytest.mark.parametrize(
    "path",
    [
        f"{IMAGE}/namespaces/ELSEWHERE/imagestreams/web",
        f"{IMAGE}/namespaces/elsewhere/ImageStreams/web",
        f"{IMAGE}/namespaces/elsewhere./imagestreams/web",
        f"{IMAGE}/namespaces//elsewhere/imagestreams/web",
        f"{IMAGE}//namespaces/elsewhere/imagestreams/web",
        "//apis/image.openshift.io/v1/namespaces/elsewhere/imagestreams/web",
        f"{IMAGE}/namespaces/team%2f..%2felsewhere/imagestreams/web",
        f"{IMAGE}/namespaces/team/../elsewhere/imagestreams/web",
        f"{IMAGE}/namespaces/team/%2e%2e/elsewhere/imagestreams/web",
        f"{IMAGE}/namespaces/elsewhere;x/imagestreams/web",
        f"{IMAGE}/namespaces/elsewhere%00/imagestreams/web",
        f"{IMAGE}/namespaces/elsewhere/imagestreams/web/",
        f"{IMAGE}/namespaces/elsewhere/imagestreams/web/status",
        f"{IMAGE}/namespaces/elsewhere/imagestreams/web/layers",
        f"{IMAGE}/namespaces/elsewhere/imagestreams/web/nothing",
        f"{IMAGE}/namespaces/\uff45lsewhere/imagestreams/web",
        "/oapi/v1/namespaces/elsewhere/imagestreams/web",
        "/oapi/v1/namespaces/elsewhere/imagestreams",
        "/api/v1/namespaces/elsewhere/ungroupedimagestreams/web",
        "/api/v1/namespaces/elsewhere",
        f"{IMAGE}/watch/namespaces/elsewhere/imagestreams/web",
        f"{IMAGE}/watch/namespaces/elsewhere/imagestreams",
        f"{IMAGE}/imagestreams",
        f"{IMAGE}/imagestreams?fieldSelector=metadata.namespace%3Dteam",
        f"{IMAGE}/imagestreams?watch=1&fieldSelector=metadata.namespace%3Dteam",
        f"{IMAGE}/namespaces/elsewhere/imagestreams?fieldSelector=metadata.name%3Dweb",
        f"{IMAGE}/namespaces/elsewhere/imagestreamtags/web:latest",
        f"{IMAGE}/namespaces/elsewhere/imagestreamtags/team%2Fweb:latest",
        "/healthz/../apis/image.openshift.io/v1/images",
        "/metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_spelling_of_a_path_shows_what_is_elsewhere(client: FlaskClient, path: str, method: str) -> None:
    client.get(path, headers=bearer("root-token")).close()  # what was answered to one is not there for another
    answer = client.open(path, method=method, headers=bearer("viewer-token"))
    assert 400 <= answer.status_code < 500
    assert client.open(path, method=method).status_code in (400, 401, 404)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
def test_no_header_makes_another_method_of_one(client: FlaskClient, header: str) -> None:
    path = f"{IMAGE}/namespaces/team/imagestreams/web"
    answer = client.get(f"{path}?_method=DELETE", headers={**bearer("viewer-token"), header: "DELETE"})
    assert answer.status_code == 200
    answer = client.delete(path, headers={**bearer("viewer-token"), header: "GET"})
    assert answer.status_code == 403
    assert client.head(path, headers=bearer("viewer-token")).status_code == 200


def test_a_rule_for_a_name_lets_nobody_create_or_list(client: FlaskClient) -> None:
    space, who = f"{IMAGE}/namespaces/team/imagestreams", bearer("namer-token")
    body = {"metadata": {"name": "web"}}
    assert client.get(f"{space}/web", headers=who).status_code == 200
    assert client.get(f"{space}/db", headers=who).status_code == 403
    assert client.get(space, headers=who).status_code == 403
    assert client.get(f"{space}?fieldSelector=metadata.name%3Dweb", headers=who).status_code == 200
    assert client.get(f"{space}?fieldSelector=metadata.name!%3Dweb", headers=who).status_code == 403
    assert client.post(space, json=body, headers=who).status_code == 403
    assert client.delete(f"{space}?fieldSelector=metadata.name%3Dweb", headers=who).status_code == 403
    apply = "?fieldManager=me&dryRun=All"
    kind = "application/apply-patch+yaml"
    whole = b"apiVersion: image.openshift.io/v1\nkind: ImageStream\nmetadata: {name: web}\n"
    assert client.patch(f"{space}/web{apply}", data=whole, content_type=kind, headers=who).status_code == 200


def test_who_may_only_update_makes_nothing_new(client: FlaskClient) -> None:
    space, who = f"{IMAGE}/namespaces/team", bearer("updater-token")
    image = {"from": {"kind": "DockerImage", "name": "registry.example.com/a/b:c"}}
    for resource, field in (("imagestreamtags", "tag"), ("imagetags", "spec")):
        body = {"metadata": {"name": "web:fresh"}, field: {"name": "fresh", **image}}
        refused = client.put(f"{space}/{resource}/web:fresh", json=body, headers=who)
        assert refused.status_code == 403
        assert f'cannot create resource "{resource}"' in refused.get_json()["message"]
        kind = {"imagestreamtags": "ImageStreamTag", "imagetags": "ImageTag"}[resource]
        whole = json.dumps({"apiVersion": "image.openshift.io/v1", "kind": kind, **body})
        for media in ("apply-patch+yaml", "merge-patch+json", "strategic-merge-patch+json"):
            for name in ("web:fresh", "fresh:fresh"):
                path = f"{space}/{resource}/{name}?fieldManager=me"
                told = whole.replace("web:fresh", name)
                refused = client.patch(path, data=told, content_type=f"application/{media}", headers=who)
                assert refused.status_code in (403, 404), (resource, media, name)
    assert len(client.get(f"{space}/imagestreams", headers=bearer("root-token")).get_json()["items"]) == 1
    whole = b"apiVersion: image.openshift.io/v1\nkind: ImageStream\nmetadata: {name: fresh}\n"
    path, kind = f"{space}/imagestreams/fresh?fieldManager=me", "application/apply-patch+yaml"
    assert client.patch(path, data=whole, content_type=kind, headers=who).status_code == 403
    assert client.get(f"{space}/imagestreams/fresh", headers=bearer("root-token")).status_code == 404


def test_a_rollback_takes_the_right_to_write_the_tag_as_well(client: FlaskClient) -> None:
    body = {"spec": {"stream": "web", "tag": "latest", "changesAgo": 1}}
    path = "/apis/history.imagestream-es.io/v1/namespaces/team/rollbacks"
    refused = client.post(path, json=body, headers=bearer("namer-token"))
    assert refused.status_code == 403
    assert 'cannot update resource "imagestreamtags"' in refused.get_json()["message"]


def test_two_authorizations_are_none(client: FlaskClient) -> None:
    for pair in (("viewer-token", "root-token"), ("root-token", "viewer-token"), ("root-token", "root-token")):
        headers = [("Authorization", f"Bearer {token}") for token in pair]
        assert client.get(f"{IMAGE}/namespaces/team/imagestreams", headers=headers).status_code == 401


THEIRS = "172.30.56.218:5000/elsewhere/web"
FOREIGN = [
    {"kind": "ImageStreamTag", "namespace": "elsewhere", "name": "web:latest"},
    {"kind": "ImageStreamImage", "namespace": "elsewhere", "name": "web@sha256:" + "a" * 64},
    {"kind": "DockerImage", "name": f"{THEIRS}:latest"},
]


def ways_to_name(source: dict[str, str], version: str) -> list[tuple[str, str, dict[str, Any], str]]:
    """Each request that makes a tag of `team` have a source: method, path, body and the body's media type.

    `version` is the resourceVersion of the image stream `web`.
    """
    space, old = f"{IMAGE}/namespaces/team", "/oapi/v1/namespaces/team"
    tag = {"name": "stolen", "from": source}
    stream = {"metadata": {"name": "new"}, "spec": {"tags": [tag]}}
    changed = {"metadata": {"name": "web", "resourceVersion": version}, "spec": {"tags": [{"name": "latest"}, tag]}}
    merged = {"spec": {"tags": [{"name": "latest"}, tag]}}
    append = [{"op": "add", "path": "/spec/tags/-", "value": tag}]
    applied = {"apiVersion": "image.openshift.io/v1", "kind": "ImageStream", **stream}
    one = {"metadata": {"name": "web:stolen"}, "tag": tag}
    other = {"metadata": {"name": "web:stolen"}, "spec": tag}
    return [
        ("POST", f"{space}/imagestreams", stream, "application/json"),
        ("POST", f"{old}/imagestreams", stream, "application/json"),
        ("POST", "/api/v1/namespaces/team/ungroupedimagestreams", stream, "application/json"),
        ("PUT", f"{space}/imagestreams/web", changed, "application/json"),
        ("PATCH", f"{space}/imagestreams/web", merged, "application/merge-patch+json"),
        ("PATCH", f"{space}/imagestreams/web", {"spec": {"tags": [tag]}}, "application/strategic-merge-patch+json"),
        ("PATCH", f"{space}/imagestreams/web", append, "application/json-patch+json"),  # type: ignore[list-item]
        ("PATCH", f"{space}/imagestreams/new?fieldManager=me", applied, "application/apply-patch+yaml"),
        ("POST", f"{space}/imagestreamtags", one, "application/json"),
        ("PUT", f"{space}/imagestreamtags/web:stolen", one, "application/json"),
        (
            "PUT",
            f"{space}/imagestreamtags/none:stolen",
            {**one, "metadata": {"name": "none:stolen"}},
            "application/json",
        ),
        ("POST", f"{space}/imagetags", other, "application/json"),
        ("PUT", f"{space}/imagetags/web:stolen", other, "application/json"),
    ]


@pytest.mark.parametrize("source", FOREIGN, ids=lambda source: source["kind"])
def test_a_source_in_another_namespace_needs_the_right_to_pull_there(
    client: FlaskClient, source: dict[str, str]
) -> None:
    web = client.get(f"{IMAGE}/namespaces/team/imagestreams/web", headers=bearer("root-token")).get_json()
    for method, path, body, kind in ways_to_name(source, web["metadata"]["resourceVersion"]):
        dry = f"{path}{'&' if '?' in path else '?'}dryRun=All"

        def told(token: str) -> tuple[int, str]:
            answer = client.open(dry, method=method, json=body, content_type=kind, headers=bearer(token))  # noqa: B023
            return answer.status_code, answer.get_json().get("message", "")

        status, message = told("editor-token")
        assert (status, "].from: Forbidden: elsewhere/web" in message) == (422, True), (method, path, message)
        status, message = told("root-token")
        assert "Forbidden" not in message, (method, path)
        assert status in ((422,) if source["kind"] == "ImageStreamImage" else (200, 201)), (method, path, message)


def test_a_whole_repository_of_another_namespace_needs_the_right_to_pull_there(client: FlaskClient) -> None:
    path = f"{IMAGE}/namespaces/team/imagestreams?dryRun=All"
    body = {"metadata": {"name": "new"}, "spec": {"dockerImageRepository": THEIRS}}
    refused = client.post(path, json=body, headers=bearer("editor-token"))
    assert refused.status_code == 422
    assert "spec.dockerImageRepository: Forbidden: elsewhere/web" in refused.get_json()["message"]
    assert client.post(path, json=body, headers=bearer("root-token")).status_code == 201


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("host", ["172.30.56.218:5000", "registry.example.com", "REGISTRY.example.com:443"])
def test_an_import_from_another_namespace_needs_the_right_to_pull_there(
    client: FlaskClient, store: bool, host: str
) -> None:
    image = {"from": {"kind": "DockerImage", "name": f"{host}/elsewhere/web:latest"}, "to": {"name": "stolen"}}
    whole = {"from": {"kind": "DockerImage", "name": f"{host}/elsewhere/web"}}
    for path in (f"{IMAGE}/namespaces/team/imagestreamimports", "/oapi/v1/namespaces/team/imagestreamimports"):
        for spec, where in (({"images": [image]}, "spec.images[0]"), ({"repository": whole}, "spec.repository")):
            body = {"metadata": {"name": "web"}, "spec": {"import": store, **spec}}
            refused = client.post(path, json=body, headers=bearer("editor-token"))
            assert refused.status_code == 422
            assert f"{where}.from.name: Forbidden: the images of elsewhere/web" in refused.get_json()["message"]
    own = {"metadata": {"name": "web"}, "spec": {"import": False, "images": [OWN]}}
    assert client.post(path, json=own, headers=bearer("editor-token")).status_code == 201
    web = client.get(f"{IMAGE}/namespaces/team/imagestreams/web", headers=bearer("root-token")).get_json()
    assert [tag["name"] for tag in web["spec"]["tags"]] == ["latest"]


OWN = {"from": {"kind": "DockerImage", "name": "172.30.56.218:5000/team/web:latest"}}


def test_nobody_acts_as_another_without_the_right_to(client: FlaskClient) -> None:
    path = "/apis/user.openshift.io/v1/users/~"
    for header in ("Impersonate-User", "impersonate-user"):
        refused = client.get(path, headers={**bearer("admin-token"), header: "root"})
        assert refused.status_code == 403
        assert "cannot impersonate" in refused.get_json()["message"]
    for headers in ({"Impersonate-Group": "system:masters"}, {"Impersonate-Uid": "1"}, {"Impersonate-Extra-A": "b"}):
        assert client.get(path, headers={**bearer("admin-token"), **headers}).status_code == 400
    headers = {**bearer("root-token"), "Impersonate-User": "viewer"}
    assert client.get(path, headers=headers).get_json()["metadata"]["name"] == "viewer"
    assert client.get(f"{IMAGE}/namespaces/team/imagestreams", headers=headers).status_code == 200
    assert client.get(f"{IMAGE}/namespaces/elsewhere/imagestreams", headers=headers).status_code == 403


ROBOT = "system:serviceaccount"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"User": "viewer"}, 200),
        ({"User": "editor", "Group": "devs"}, 200),
        ({"User": "viewer", "Extra-Why": "ticket"}, 200),
        ({"User": f"{ROBOT}:team:builder"}, 200),
        ({"User": "admin"}, 403),
        ({"User": "root"}, 403),
        ({"User": "viewer", "Group": "system:masters"}, 403),
        ({"User": "viewer", "Group": "devs,system:masters"}, 403),
        ({"User": "viewer", "Uid": "7"}, 403),
        ({"User": "viewer", "Extra-Why": "ticket, other"}, 403),
        ({"User": "viewer", "Extra-Other": "ticket"}, 403),
        ({"User": f"{ROBOT}:elsewhere:builder"}, 403),
        ({"User": f"{ROBOT}:team:builder:x"}, 403),
        ({"User": "system:anonymous"}, 403),
    ],
)
def test_who_may_act_as_some_acts_as_no_others(client: FlaskClient, headers: dict[str, str], code: int) -> None:
    wanted = {f"Impersonate-{name}": value for name, value in headers.items()}
    answer = client.get("/apis/user.openshift.io/v1/users/~", headers=bearer("helper-token") | wanted)
    assert answer.status_code == code
    if code == 200:
        assert answer.get_json()["metadata"]["name"] == headers["User"]
    assert client.get("/apis", headers=bearer("helper-token") | wanted).status_code == code


def test_whoever_acts_as_another_stands_beside_them_in_the_log(client: FlaskClient) -> None:
    def push(body: str, **headers: str) -> int:
        mapping = {"metadata": {"name": "web"}, "tag": "acted", "image": {"metadata": {"name": f"sha256:{body * 64}"}}}
        path = f"{IMAGE}/namespaces/team/imagestreammappings"
        return client.post(path, json=mapping, headers={**bearer("root-token"), **headers}).status_code

    assert push("c", **{"Impersonate-User": "viewer"}) == 403  # as the viewer, who may not; whoever root is
    assert push("c", **{"Impersonate-User": "editor", "Audit-ID": "acting"}) == 201
    assert push("d", **{"Audit-ID": "alone"}) == 201
    selector = "fieldSelector=stream%3Dweb,tag%3Dacted"
    path = f"/apis/history.imagestream-es.io/v1/namespaces/team/tagchanges?{selector}"
    alone, acted = client.get(path, headers=bearer("root-token")).get_json()["items"]
    assert (acted["actor"], acted["impersonator"], acted["cause"]["request"]) == ("editor", "root", "acting")
    assert (alone["actor"], alone["cause"]["request"]) == ("root", "alone")
    assert "impersonator" not in alone
    # The log holds both as ids.
    services = client.application.extensions["imagestream"]
    with services.queries._store.reading() as rows:
        origins = [orjson.loads(stored.state)["by"] for _, stored in rows.log(1, rows.head())]
    pairs = {(by["actor"], by["impersonator"]) for by in origins if by.get("request") == "acting"}
    ((actor, impersonator),) = pairs  # of the image's event and of the stream's
    assert services.principals.names([actor, impersonator]) == {actor: "editor", impersonator: "root"}


def test_health_answers_everybody_and_nothing_else_does(client: FlaskClient) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/store"):
        assert client.get(path).status_code == 200
    for path in ("/", "/version", "/api", "/apis", "/openapi/v2", "/openapi/v3", "/docs", "/metrics", "/nothing"):
        assert client.get(path).status_code == 401
    for path in ("/", "/version", "/api", "/apis", "/openapi/v2", "/openapi/v3", "/docs"):
        assert client.get(path, headers=bearer("other-token")).status_code == 200
    assert client.post("/hooks/registry", headers=bearer("root-token")).status_code == 401


def test_metrics_are_for_those_who_watch_the_service(client: FlaskClient) -> None:
    for token in ("viewer-token", "admin-token", "other-token"):
        assert client.get("/metrics", headers=bearer(token)).status_code == 403
    prometheus = {"Impersonate-User": "prometheus", "Impersonate-Group": "system:monitoring"}
    assert client.get("/metrics", headers=bearer("root-token") | prometheus).status_code == 200
    assert client.get(f"{IMAGE}/imagestreams", headers=bearer("root-token") | prometheus).status_code == 403


def review(client: FlaskClient, who: str, kind: str, **spec: Any) -> dict[str, Any]:
    group = "authorization.k8s.io/v1"
    body = {"kind": kind, "apiVersion": group, "spec": spec}
    answer = client.post(f"/apis/{group}/{kind.lower()}s", json=body, headers=bearer(who))
    assert answer.status_code == 201, answer.get_data(as_text=True)
    status: dict[str, Any] = answer.get_json()["status"]
    return status


def test_reviews_tell_what_is_allowed(client: FlaskClient) -> None:
    asked = {"namespace": "team", "verb": "update", "group": "image.openshift.io", "resource": "imagestreams"}
    kind = "SelfSubjectAccessReview"
    for who, allowed in (("viewer-token", False), ("editor-token", True), ("other-token", False)):
        assert review(client, who, kind, resourceAttributes=asked)["allowed"] is allowed
    layers = {**asked, "subresource": "layers"}
    assert review(client, "pusher-token", kind, resourceAttributes=layers)["allowed"]
    assert not review(client, "viewer-token", kind, resourceAttributes=layers)["allowed"]
    others = {"user": "pusher", "resourceAttributes": layers}
    assert review(client, "root-token", "SubjectAccessReview", **others)["allowed"]
    nobody = {"user": "nobody", "resourceAttributes": layers}
    assert not review(client, "root-token", "SubjectAccessReview", **nobody)["allowed"]
    path = {"path": "/metrics", "verb": "get"}
    assert not review(client, "viewer-token", kind, nonResourceAttributes=path)["allowed"]
    rules = review(client, "viewer-token", "SelfSubjectRulesReview", namespace="team")
    assert any("imagestreams" in rule["resources"] for rule in rules["resourceRules"])
    rules = review(client, "viewer-token", "SelfSubjectRulesReview", namespace="elsewhere")
    assert not any("imagestreams" in rule["resources"] for rule in rules["resourceRules"])


LOCAL = "/apis/authorization.k8s.io/v1/namespaces/team/localsubjectaccessreviews"


def test_an_admin_may_ask_what_others_may_do_in_the_namespace_and_nowhere_else(client: FlaskClient) -> None:
    asked = {"namespace": "team", "verb": "get", "group": "image.openshift.io", "resource": "imagestreams"}

    def ask(token: str, **spec: Any) -> Any:
        body = {"kind": "LocalSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec}
        return client.post(LOCAL, json=body, headers=bearer(token))

    for user, allowed in (("viewer", True), ("pusher", False), ("other", False), ("nobody", False)):
        answer = ask("admin-token", user=user, resourceAttributes=asked)
        assert (answer.status_code, answer.get_json()["kind"]) == (201, "LocalSubjectAccessReview")
        assert answer.get_json()["status"]["allowed"] is allowed
    for wrong in (
        {"resourceAttributes": {**asked, "namespace": "elsewhere"}},
        {"resourceAttributes": {**asked, "namespace": ""}},
        {"resourceAttributes": "x"},
        {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
        {"resourceAttributes": asked, "nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
    ):
        assert ask("admin-token", user="other", **wrong).status_code == 422
    assert ask("editor-token", user="viewer", resourceAttributes=asked).status_code == 403
    assert client.post(LOCAL.replace("team", "elsewhere"), json={}, headers=bearer("admin-token")).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "a\tb"},
        {"Impersonate-User": "x" * 257},
        {"Impersonate-User": "\xc2\x85"},
        {"Impersonate-User": "viewer", "Impersonate-Group": "x" * 257},
        {"Impersonate-User": "viewer", "Impersonate-Group": "devs,a\tb"},
    ],
)
def test_nobody_can_be_impersonated_whose_name_nobody_can_have(client: FlaskClient, headers: dict[str, str]) -> None:
    body = {"metadata": {"name": "odd"}}
    answer = client.post(f"{IMAGE}/namespaces/team/imagestreams", json=body, headers=bearer("root-token") | headers)
    assert answer.status_code == 400
    assert "printable" in answer.get_json()["message"]


def test_an_impersonated_name_is_read_as_utf_8(client: FlaskClient) -> None:
    headers = {"Impersonate-User": "zo\u00eb".encode().decode("latin-1"), "Impersonate-Group": "d\u00e9v"}
    told = client.get("/apis/user.openshift.io/v1/users/~", headers=bearer("root-token") | headers).get_json()
    assert (told["metadata"]["name"], told["groups"][0]) == ("zo\u00eb", "d\u00e9v")


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\ud800", "x" * 257, "\x1b[2J"])
def test_a_token_with_a_name_that_nobody_can_have_proves_nothing(client: FlaskClient, name: str) -> None:
    for claims in ({"sub": name}, {"groups": [name]}):
        path = f"{IMAGE}/namespaces/team/imagestreams"
        assert client.post(path, json={}, headers=bearer(signed(**claims))).status_code == 401
    # Nobody who is nobody is let through to the store.
    assert client.get("/apis", headers=bearer(signed(groups=["fine", ""]))).status_code == 200
