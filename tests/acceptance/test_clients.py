"""Kubernetes client libraries: they build their whole API from what the server tells of itself."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as kubernetes_client
from kubernetes import dynamic as kubernetes_dynamic
from openshift import dynamic as openshift_dynamic

NAMESPACE = "clients"
STREAM: dict[str, Any] = {
    "apiVersion": "image.openshift.io/v1",
    "kind": "ImageStream",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"tags": [{"name": "latest", "from": {"kind": "DockerImage", "name": "example.test/web:1"}}]},
}


@pytest.fixture(params=[kubernetes_dynamic, openshift_dynamic], ids=["kubernetes", "openshift"])
def streams(request, service, tmp_path: Path) -> Any:
    """The resource of image streams, as a dynamic client offers it."""
    configuration = kubernetes_client.Configuration()
    configuration.host = service.url
    api_client = kubernetes_client.ApiClient(configuration)
    dynamic = request.param.DynamicClient(api_client, cache_file=str(tmp_path / "discovery.json"))
    return dynamic.resources.get(api_version="image.openshift.io/v1", kind="ImageStream")


def test_the_python_dynamic_clients_create_list_patch_watch_and_delete(streams: Any) -> None:
    created = streams.create(body=STREAM, namespace=NAMESPACE)
    assert created.metadata.generation == 1
    assert [item.metadata.name for item in streams.get(namespace=NAMESPACE, label_selector="app=web").items] == ["web"]

    patch = {"metadata": {"labels": {"seen": "yes"}}}
    for media_type in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
        patched = streams.patch(body=patch, name="web", namespace=NAMESPACE, content_type=media_type)
        assert patched.metadata.labels.seen == "yes"
    replaced = patched.to_dict()
    replaced["spec"]["lookupPolicy"] = {"local": True}
    assert streams.replace(body=replaced, namespace=NAMESPACE).metadata.generation == 2

    seen = [
        (event["type"], event["object"].metadata.resourceVersion)
        for event in streams.watch(namespace=NAMESPACE, resource_version="1", timeout=1)
    ]
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "MODIFIED"]
    resumed = streams.watch(namespace=NAMESPACE, resource_version=seen[0][1], timeout=1)
    assert [event["object"].metadata.resourceVersion for event in resumed] == [version for _, version in seen[1:]]

    assert streams.delete(name="web", namespace=NAMESPACE).status == "Success"
    assert list(streams.get(namespace=NAMESPACE).items) == []
    past = streams.get(namespace=NAMESPACE, resource_version=seen[0][1], resource_version_match="Exact")
    assert past.items[0].metadata.labels.to_dict() == {"app": "web"}


def test_the_python_dynamic_client_applies(streams: Any) -> None:
    applied = streams.server_side_apply(body=STREAM, namespace=NAMESPACE, field_manager="pipeline")
    assert [entry.manager for entry in applied.metadata.managedFields] == ["pipeline"]
    again = streams.server_side_apply(body=STREAM, namespace=NAMESPACE, field_manager="pipeline")
    assert again.metadata.resourceVersion == applied.metadata.resourceVersion


SCRIPT = """
const { OpenshiftClient } = require('openshift-rest-client');
const [url, stream] = [process.argv[2], JSON.parse(process.argv[3])];

async function main() {
  const config = {
    apiVersion: 'v1', kind: 'Config', 'current-context': 'x', preferences: {},
    clusters: [{ name: 'c', cluster: { server: url } }],
    users: [{ name: 'u', user: {} }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'clients' } }],
  };
  const client = await OpenshiftClient({ config });
  const streams = client.apis['image.openshift.io'].v1.namespaces('clients').imagestreams;
  const told = {};
  told.created = (await streams.post({ body: stream })).statusCode;
  told.listed = (await streams.get()).body.items.map((item) => item.metadata.name);
  const patched = await streams('web').patch({ body: { metadata: { labels: { seen: 'yes' } } } });
  told.labels = patched.body.metadata.labels;
  told.watched = await watch(client, 1, 2);
  told.resumed = await watch(client, told.watched[0][1], 1);
  told.deleted = (await streams('web').delete()).body.status;
  told.left = (await streams.get()).body.items.length;
  console.log(JSON.stringify(told));
  process.exit(0);
}

async function watch(client, version, count) {
  const found = [];
  const streams = client.apis['image.openshift.io'].v1.watch.namespaces('clients').imagestreams;
  const lines = await streams.getObjectStream({ qs: { resourceVersion: String(version) } });
  await new Promise((resolve, reject) => {
    lines.on('error', reject);
    lines.on('data', (event) => {
      found.push([event.type, event.object.metadata.resourceVersion]);
      if (found.length === count) { lines.destroy(); resolve(); }
    });
  });
  return found;
}

main().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]) -> Path:
    """A folder with the JavaScript client in it."""
    directory = tmp_path_factory.mktemp("javascript")
    npm = require("npm")
    run = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory, "openshift-rest-client@9.1.1"],
        check=False,
        timeout=240,
        capture_output=True,
    )
    if run.returncode:
        pytest.skip("needs openshift-rest-client, which npm could not install")
    return directory


def test_the_javascript_client_creates_lists_patches_watches_and_deletes(
    node_modules: Path, service, require: Callable[[str], str]
) -> None:
    script = node_modules / "client.js"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [require("node"), script, service.url, json.dumps(STREAM)],
        cwd=node_modules,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    versions = [version for _, version in told["watched"]]
    assert told == {
        "created": 201,
        "listed": ["web"],
        "labels": {"app": "web", "seen": "yes"},
        "watched": [["ADDED", versions[0]], ["MODIFIED", versions[1]]],
        "resumed": [["MODIFIED", versions[1]]],
        "deleted": "Success",
        "left": 0,
    }
