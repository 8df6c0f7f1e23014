"""A dry run answers what would be, and leaves nothing: no event, and no version that will be somebody else's."""

import pytest
from flask.testing import FlaskClient

STREAMS = "/apis/image.openshift.io/v1/namespaces/dry/imagestreams"
MERGE = "application/merge-patch+json"


def label(client: FlaskClient, value: str, query: str = "") -> dict:
    patch = {"metadata": {"labels": {"by": value}}}
    return client.patch(f"{STREAMS}/web{query}", json=patch, content_type=MERGE).json


def test_a_dry_run_of_a_change_answers_the_version_that_is_there(client: FlaskClient) -> None:
    version = client.post(STREAMS, json={"metadata": {"name": "web"}}).json["metadata"]["resourceVersion"]
    rehearsed = label(client, "dry", "?dryRun=All")
    assert rehearsed["metadata"]["labels"] == {"by": "dry"}
    assert rehearsed["metadata"]["resourceVersion"] == version


def test_what_a_dry_run_answered_never_passes_for_what_another_wrote(client: FlaskClient) -> None:
    client.post(STREAMS, json={"metadata": {"name": "web"}})
    rehearsed = label(client, "dry", "?dryRun=All")
    label(client, "another")
    assert client.put(f"{STREAMS}/web", json=rehearsed).status_code == 409
    assert client.get(f"{STREAMS}/web").json["metadata"]["labels"] == {"by": "another"}


@pytest.mark.parametrize("apply", [False, True], ids=["create", "apply"])
def test_a_dry_run_of_a_creation_answers_no_version(client: FlaskClient, apply: bool) -> None:
    if apply:
        answer = client.patch(
            f"{STREAMS}/web?dryRun=All&fieldManager=tests",
            data=b"apiVersion: image.openshift.io/v1\nkind: ImageStream\nmetadata: {name: web}\n",
            content_type="application/apply-patch+yaml",
        )
    else:
        answer = client.post(f"{STREAMS}?dryRun=All", json={"metadata": {"name": "web"}})
    assert answer.status_code == 201
    assert answer.json["metadata"]["uid"]
    assert "resourceVersion" not in answer.json["metadata"]
    assert client.get(f"{STREAMS}/web").status_code == 404
