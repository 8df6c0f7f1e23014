"""RBAC: what manifests grant, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagestream_es.access.files import Reread, WrongFile
from imagestream_es.access.identity import AUTHENTICATED, User
from imagestream_es.access.policy import Action, Policy, manifests_in, policy_of
from imagestream_es.access.rules import load

HEAD = "apiVersion: rbac.authorization.k8s.io/v1\n"
GROUP = "image.openshift.io"


def role(rules: str, *, kind: str = "ClusterRole", name: str = "r", metadata: str = "") -> str:
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}{metadata}}}\nrules: {rules}\n---\n"


def binding(
    *, name: str = "r", subject: str = "{kind: User, name: joe}", namespace: str = "", kind: str = "ClusterRole"
):
    sort, where = ("RoleBinding", f", namespace: {namespace}") if namespace else ("ClusterRoleBinding", "")
    return (
        f"{HEAD}kind: {sort}\nmetadata: {{name: b-{name}{where}}}\n"
        f"roleRef: {{kind: {kind}, name: {name}}}\nsubjects: [{subject}]\n---\n"
    )


def policy(tmp_path: Path, *texts: str) -> Policy:
    (tmp_path / "rules.yaml").write_text("".join(texts))
    return policy_of([tmp_path / "rules.yaml"])


def rule(verbs: str = "get", resources: str = "imagestreams", more: str = "") -> str:
    return f"[{{verbs: ['{verbs}'], apiGroups: [{GROUP}], resources: ['{resources}']{more}}}]"


JOE = User("joe", "", ("team", AUTHENTICATED))


def may(policy: Policy, verb: str, resource: str, namespace: str = "a", name: str = "x", group: str = GROUP) -> bool:
    return policy.allows(JOE, Action(verb, group, resource, namespace, name))


def test_a_role_binding_grants_in_its_namespace_alone(tmp_path: Path) -> None:
    found = policy(tmp_path, role(rule()), binding(namespace="a"))
    assert may(found, "get", "imagestreams", "a")
    assert not may(found, "get", "imagestreams", "b")
    assert not may(found, "get", "imagestreams", "")
    assert not may(found, "update", "imagestreams", "a")
    assert not may(found, "get", "imagestreams", "a", group="")


def test_a_cluster_role_binding_grants_everywhere(tmp_path: Path) -> None:
    found = policy(tmp_path, role(rule()), binding())
    assert may(found, "get", "imagestreams", "a")
    assert may(found, "get", "imagestreams", "")


def test_a_role_is_of_its_namespace(tmp_path: Path) -> None:
    of_a = role(rule(), kind="Role", metadata=", namespace: a")
    found = policy(tmp_path, of_a, binding(namespace="b", kind="Role"))
    assert not may(found, "get", "imagestreams", "b")
    assert not may(found, "get", "imagestreams", "a")


@pytest.mark.parametrize(
    ("resources", "resource", "granted"),
    [
        ("imagestreams", "imagestreams/layers", False),
        ("imagestreams/layers", "imagestreams/layers", True),
        ("imagestreams/layers", "imagestreams", False),
        ("*", "imagestreams/layers", True),
        ("*/layers", "imagestreams/layers", True),
        ("*/layers", "imagestreams/status", False),
        ("*/layers", "imagestreams", False),
        ("imagestreams/*", "imagestreams/layers", False),
        ("ImageStreams", "imagestreams", False),
    ],
)
def test_a_subresource_is_a_resource_of_its_own(tmp_path: Path, resources: str, resource: str, granted: bool) -> None:
    found = policy(tmp_path, role(rule(resources=resources)), binding())
    assert may(found, "get", resource) is granted


@pytest.mark.parametrize(
    ("verb", "name", "granted"),
    [
        ("get", "web", True),
        ("get", "db", False),
        ("create", "web", False),
        ("create", "", False),
        ("deletecollection", "web", False),
        ("list", "", False),
        ("list", "web", True),
        ("delete", "web", True),
    ],
)
def test_names_limit_what_has_a_name(tmp_path: Path, verb: str, name: str, granted: bool) -> None:
    found = policy(tmp_path, role(rule("*", more=", resourceNames: [web]")), binding())
    assert may(found, verb, "imagestreams", name=name) is granted


@pytest.mark.parametrize(
    ("subject", "granted"),
    [
        ("{kind: User, name: joe}", True),
        ("{kind: User, name: Joe}", False),
        ("{kind: User, name: team}", False),
        ("{kind: Group, name: team}", True),
        ("{kind: Group, name: system:authenticated}", True),
        ("{kind: Group, name: joe}", False),
        ("{kind: ServiceAccount, name: joe, namespace: a}", False),
    ],
)
def test_a_subject_is_a_user_or_a_group(tmp_path: Path, subject: str, granted: bool) -> None:
    found = policy(tmp_path, role(rule()), binding(subject=subject))
    assert may(found, "get", "imagestreams") is granted


def test_a_service_account_is_a_user_with_a_long_name(tmp_path: Path) -> None:
    found = policy(tmp_path, role(rule()), binding(subject="{kind: ServiceAccount, name: ci, namespace: a}"))
    assert found.allows(User("system:serviceaccount:a:ci"), Action("get", GROUP, "imagestreams", "b", "x"))


def test_a_role_gathers_the_rules_of_others_by_their_labels(tmp_path: Path) -> None:
    whole = f"{HEAD}kind: ClusterRole\nmetadata: {{name: r}}\naggregationRule:\n"
    whole += "  clusterRoleSelectors: [{matchLabels: {part: x}}]\n---\n"
    found = policy(tmp_path, whole, role(rule(), name="p", metadata=", labels: {part: x}"), binding())
    assert may(found, "get", "imagestreams")
    assert not may(policy(tmp_path, whole, role(rule(), name="p"), binding()), "get", "imagestreams")


def test_masters_may_everything_and_strangers_nothing() -> None:
    found = policy_of([])
    action = Action("delete", GROUP, "images", "", "x")
    assert found.allows(User("root", "", ("system:masters",)), action)
    assert not found.allows(User("system:masters"), action)
    assert not found.allows(User(""), action)


def test_paths_are_granted_whole_or_up_to_a_star(tmp_path: Path) -> None:
    text = role("[{verbs: [get], nonResourceURLs: [/metrics, /logs/*]}]")
    found = policy(tmp_path, text, binding())
    allowed = {
        path: found.allows_path(JOE, "get", path) for path in ("/metrics", "/metrics/x", "/logs/a", "/logs", "/")
    }
    assert allowed == {"/metrics": True, "/metrics/x": False, "/logs/a": True, "/logs": False, "/": True}
    assert not found.allows_path(JOE, "post", "/metrics")


def test_a_role_of_the_same_name_replaces_one_that_is_shipped(tmp_path: Path) -> None:
    edit = binding(name="image-puller", namespace="a")
    assert may(policy(tmp_path, edit), "get", "imagestreams/layers")
    replaced = policy(tmp_path, edit, role(rule(), name="image-puller"))
    assert not may(replaced, "get", "imagestreams/layers")
    assert may(replaced, "get", "imagestreams")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (role(rule()) + "kind: Pod\napiVersion: v1\n", 6),
        (role(rule()) + role(rule()), 6),
        (role("[{verb: [get]}]"), 4),
        (role("[{verbs: [get], resources: [a]}]"), 4),
        (role("[{verbs: get, apiGroups: [a], resources: [a]}]"), 4),
        (role("[{verbs: [get], nonResourceURLs: [/a/*/b]}]"), 4),
        (role("[{verbs: [get], nonResourceURLs: [/a]}]", kind="Role", metadata=", namespace: a"), 4),
        (role(rule(), kind="Role"), 3),
        (binding(subject="{kind: Robot, name: x}"), 5),
        (binding(subject="{kind: User, name: 12}"), 5),
        (f"{HEAD}kind: ClusterRole\nkind: Role\n", 3),
        ("a: [\n", 2),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(WrongFile) as refusal:
        load([tmp_path / "wrong.yaml"])
    assert str(refusal.value).startswith(f"{tmp_path / 'wrong.yaml'}, line {line}: ")


def test_lists_of_manifests_are_read(tmp_path: Path) -> None:
    text = f"{HEAD}kind: RoleList\nitems:\n- metadata: {{name: r, namespace: a}}\n  rules: {rule()}\n---\n"
    assert ("a", "r") in load_text(tmp_path, text).roles


def load_text(tmp_path: Path, text: str):
    (tmp_path / "list.yaml").write_text(text)
    return load([tmp_path / "list.yaml"])


def test_rules_are_read_again_as_a_whole_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    """As Kubernetes mounts them: each file is a link through one link, which is turned."""
    for number, content in enumerate((role(rule()) + binding(), role("[]") + binding(), "kind: Pod\n")):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "rules.yaml").write_text(content)

    def turn(number: int) -> None:
        (tmp_path / "..new").symlink_to(f"..{number}")
        (tmp_path / "..new").rename(tmp_path / "..data")

    turn(0)
    (tmp_path / "rules.yaml").symlink_to("..data/rules.yaml")
    read: Reread[Policy] = Reread(lambda: manifests_in(tmp_path), policy_of)
    assert may(read.value, "get", "imagestreams")
    turn(2)
    read.refresh()
    assert may(read.value, "get", "imagestreams")
    turn(1)
    read.refresh()
    assert not may(read.value, "get", "imagestreams")
    turn(0)
    read.refresh()
    assert may(read.value, "get", "imagestreams")
    (tmp_path / "rules.yaml").unlink()
    read.refresh()
    assert not may(read.value, "get", "imagestreams")


def test_an_answer_that_is_remembered_is_for_the_same_question_of_the_same_user(tmp_path: Path) -> None:
    found = policy(tmp_path, role(rule()), binding(namespace="a", subject="{kind: Group, name: team}"))
    asked = Action("get", GROUP, "imagestreams", "a", "x")
    for _ in range(2):
        assert found.allows(JOE, asked)
        assert not found.allows(User("joe", "", (AUTHENTICATED,)), asked)
        assert not found.allows(User("team", "", ()), asked)
        for other in (
            Action("list", GROUP, "imagestreams", "a", "x"),
            Action("get", "", "imagestreams", "a", "x"),
            Action("get", GROUP, "imagestreams/layers", "a", "x"),
            Action("get", GROUP, "imagestreams", "b", "x"),
        ):
            assert not found.allows(JOE, other)


def test_questions_without_end_take_no_memory_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagestream_es.access.policy.MOST", 10)
    found = policy(tmp_path, role(rule()), binding())
    for number in range(100):
        assert may(found, "get", "imagestreams", f"n{number}")
        assert not may(found, "delete", "imagestreams", f"n{number}")
        assert len(found._answers) <= 10
    assert may(found, "get", "imagestreams", "n" * 8000)
    assert not may(found, "get", "imagestreams/" + "n" * 8000)
    assert sum(len(action.resource + action.name + action.namespace) for _, _, action in found._answers) < 1000


CUSTOMARY: dict[str, tuple[set[str], set[str]]] = {
    "view": ({"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}),
    "edit": ({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}, set()),
    "admin": ({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}, set()),
    "image-puller": (set(), {"get", "list", "watch", "create", "update", "delete"}),
    "image-pusher": (set(), {"get", "list", "watch", "create", "update", "delete"}),
    "image-builder": ({"create"}, {"get", "list", "watch", "update", "delete"}),
    "registry": ({"get"}, {"list", "create", "update", "delete"}),
    "image-pruner": ({"get", "list", "watch"}, {"create", "update", "delete"}),
    "auditor": ({"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}),
}
"""What each role that is shipped grants, and what it does not, on image streams."""
LAYERS = {
    "view": "",
    "edit": "get update",
    "admin": "get update",
    "image-puller": "get",
    "image-pusher": "get update",
    "image-builder": "get update",
    "registry": "",
    "image-pruner": "",
    "auditor": "",
}


@pytest.mark.parametrize("name", CUSTOMARY)
@pytest.mark.parametrize("group", ["", GROUP])
def test_each_customary_role_grants_what_it_is_for(tmp_path: Path, name: str, group: str) -> None:
    found = policy(tmp_path, binding(name=name, namespace="a"))
    granted, withheld = CUSTOMARY[name]
    for verb in granted | withheld:
        assert may(found, verb, "imagestreams", group=group) == (verb in granted), verb
        assert not may(found, verb, "imagestreams", "b", group=group)
        assert not may(found, verb, "imagestreams", "", "", group=group)
    for verb in ("get", "update", "patch", "delete"):
        assert may(found, verb, "imagestreams/layers", group=group) == (verb in LAYERS[name].split()), verb
    assert not may(found, "impersonate", "users", group="")


def test_the_roles_of_what_serves_images_do_so_everywhere(tmp_path: Path) -> None:
    registry = policy(tmp_path, binding(name="registry"))
    for verb, resource, group in (
        ("create", "imagestreammappings", GROUP),
        ("get", "imagestreams/secrets", GROUP),
        ("get", "imagestreamimages", GROUP),
        ("get", "imagestreamtags", GROUP),
        ("create", "subjectaccessreviews", "authorization.k8s.io"),
        ("list", "limitranges", ""),
    ):
        assert may(registry, verb, resource, group=group), resource
    for verb in ("create", "get", "list", "update"):
        assert may(registry, verb, "images", "")
    assert not may(registry, "delete", "images", "")
    pruner = policy(tmp_path, binding(name="image-pruner"))
    for verb in ("delete", "get", "list"):
        assert may(pruner, verb, "images", "")
    assert may(pruner, "update", "imagestreams/status")
    assert not may(pruner, "create", "images", "")
    auditor = policy(tmp_path, binding(name="auditor"))
    for resource in ("tagchanges", "imageusages", "diffs"):
        assert may(auditor, "list", resource, "", group="history.imagestream-es.io")
    assert not may(auditor, "create", "rollbacks", group="history.imagestream-es.io")
    assert not may(auditor, "get", "imagestreams/secrets")


def test_an_admin_lets_nobody_in_who_is_not_in_already(tmp_path: Path) -> None:
    found = policy(tmp_path, binding(name="admin", namespace="a"))
    assert may(found, "create", "localsubjectaccessreviews", group="authorization.k8s.io")
    for verb, resource, group in (
        ("create", "subjectaccessreviews", "authorization.k8s.io"),
        ("create", "rolebindings", "rbac.authorization.k8s.io"),
        ("impersonate", "serviceaccounts", ""),
        ("update", "imagestreams/status", GROUP),
    ):
        assert not may(found, verb, resource, group=group), resource


def test_everybody_who_is_known_may_read_discovery_and_ask_about_themselves() -> None:
    found = policy_of([])
    stranger = User("stranger", "", (AUTHENTICATED,))
    for path in ("/", "/api", "/api/v1", "/apis", "/apis/image.openshift.io/v1", "/oapi/v1", "/openapi/v2", "/version"):
        assert found.allows_path(stranger, "get", path)
        assert not found.allows_path(stranger, "post", path)
    for resource in ("selfsubjectaccessreviews", "selfsubjectrulesreviews"):
        assert found.allows(stranger, Action("create", "authorization.k8s.io", resource))
    assert found.allows(stranger, Action("create", "authentication.k8s.io", "selfsubjectreviews"))
    assert found.allows(stranger, Action("get", "user.openshift.io", "users", name="~"))
    assert not found.allows(stranger, Action("get", "user.openshift.io", "users", name="jane"))
    anybody = User("system:anonymous", "", ("system:unauthenticated",))
    assert found.allows_path(anybody, "get", "/version")
    assert not found.allows_path(anybody, "get", "/apis")
    assert not found.allows(anybody, Action("create", "authorization.k8s.io", "selfsubjectaccessreviews"))
