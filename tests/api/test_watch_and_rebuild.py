"""A watch lives on the log: it does not notice that the views are folded anew beneath it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from imagestream_es.bootstrap import open_store
from imagestream_es.projections import projector
from imagestream_es.settings import Settings

STREAMS = "/apis/image.openshift.io/v1/namespaces/rebuilt/imagestreams"


def events(lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line.strip():
            event: dict[str, Any] = json.loads(line)
            yield event["type"], event["object"]["metadata"]["name"]


def test_a_watch_goes_on_through_a_rebuild_of_the_views(client: FlaskClient, tmp_path: Path) -> None:
    def create(name: str) -> None:
        assert client.post(STREAMS, json={"metadata": {"name": name}}).status_code == 201

    create("before")
    answer = client.get(f"{STREAMS}?watch=1&resourceVersion=1&timeoutSeconds=20", buffered=False)
    seen = events(iter(answer.response))
    assert next(seen) == ("ADDED", "before")
    create("waiting")  # handed to the watch while the views are empty or half full

    store = open_store(Settings(data_dir=tmp_path / "data"))
    events_folded = projector.rebuild(store)
    store.close()
    assert events_folded == 3  # the genesis event and two streams

    create("after")
    assert [next(seen), next(seen)] == [("ADDED", "waiting"), ("ADDED", "after")]
    answer.close()
    assert [item["metadata"]["name"] for item in client.get(STREAMS).json["items"]] == ["after", "before", "waiting"]
