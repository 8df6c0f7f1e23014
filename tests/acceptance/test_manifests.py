"""Real image streams, as vendors ship them, come back with every field that was sent."""

import json
from pathlib import Path
from typing import Any

import pytest

MANIFESTS = Path(__file__).parents[3] / "shared" / "data" / "imagestreams"


def manifests() -> list[Any]:
    found = sorted(MANIFESTS.glob("*/*.json"))
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"needs the image streams in {MANIFESTS}"))]
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in found]


def holds(shown: Any, sent: Any, path: str = "") -> list[str]:
    """Where `shown` lacks something of `sent`; tags may come in another order."""
    if isinstance(sent, dict):
        if not isinstance(shown, dict):
            return [path]
        return [problem for key, value in sent.items() for problem in holds(shown.get(key), value, f"{path}.{key}")]
    if isinstance(sent, list) and path.endswith("spec.tags"):
        names = [tag["name"] for tag in shown]
        if names != sorted({tag["name"] for tag in sent}):
            return [f"{path}: {names}"]
        by_name = {tag["name"]: tag for tag in shown}
        return [problem for tag in sent for problem in holds(by_name[tag["name"]], tag, f"{path}[{tag['name']}]")]
    if sent in (None, ""):  # as good as not sent: defaults may take its place
        return []
    return [] if shown == sent else [f"{path}: {shown!r} is not {sent!r}"]


@pytest.mark.parametrize("path", manifests())
def test_real_image_streams_come_back_whole(path: Path, client) -> None:
    document = json.loads(path.read_text())
    for sent in document["items"] if document["kind"] == "ImageStreamList" else [document]:
        url = "/apis/image.openshift.io/v1/namespaces/openshift/imagestreams"
        created = client.post(url, json=sent)
        assert created.status_code == 201, created.json
        shown = client.get(f"{url}/{sent['metadata']['name']}").json
        assert shown == created.json
        sent["metadata"].pop("creationTimestamp", None)
        sent.pop("apiVersion")  # some say v1; the path decides
        assert holds(shown, sent) == []
