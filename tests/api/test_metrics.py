"""What Prometheus reads: true counts, and labels that nobody but the program chooses."""

from __future__ import annotations

import importlib.metadata
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from api import create_app
from imagestream_es.application.writer import Decision
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/team"
IMAGE = f"sha256:{1:064x}"
FIRST = {"metadata": {"name": "app"}}


def samples(client: FlaskClient) -> dict[str, float]:
    """The value of each sample by its name with its labels, as `name{label="value"}`."""
    text = client.get("/metrics").get_data(as_text=True)
    found = {}
    for family in parse(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def change(client: FlaskClient) -> Callable[[], dict[str, float]]:
    """Tells what changed since it was last asked, requests for metrics left out."""
    last = samples(client)

    def change() -> dict[str, float]:
        nonlocal last
        before, last = last, samples(client)
        return {
            name: value - before.get(name, 0)
            for name, value in last.items()
            if value != before.get(name, 0) and "resource=,verb=get" not in name and name.startswith("imagestream_")
        }

    return change


def only(changes: dict[str, float], name: str) -> dict[str, float]:
    return {key.partition("{")[2].rstrip("}"): value for key, value in changes.items() if key.startswith(name + "{")}


def test_requests_are_counted_by_verb_resource_and_code(client: FlaskClient, change) -> None:
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    client.get(f"{SPACE}/imagestreams")
    client.get(f"{SPACE}/imagestreams/app/layers")
    client.head(f"{SPACE}/imagestreams/nothing")
    client.patch(f"{SPACE}/imagestreams/app", json={}, content_type="application/merge-patch+json")
    client.delete(f"{SPACE}/imagestreams")
    changes = change()
    assert only(changes, "imagestream_requests_total") == {
        "code=201,resource=imagestreams,verb=create": 1,
        "code=409,resource=imagestreams,verb=create": 1,
        "code=200,resource=imagestreams,verb=list": 1,
        "code=200,resource=imagestreams/layers,verb=get": 1,
        "code=404,resource=imagestreams,verb=get": 1,
        "code=200,resource=imagestreams,verb=patch": 1,
        "code=200,resource=imagestreams,verb=deletecollection": 1,
    }
    counts = only(changes, "imagestream_request_duration_seconds_count")
    assert counts["resource=imagestreams,verb=create"] == 2
    assert sum(counts.values()) == 7
    assert all(value > 0 for value in only(changes, "imagestream_request_duration_seconds_sum").values())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere/at/all"),
        ("GET", f"{SPACE}/secrets/name"),
        ("GET", f"{SPACE}/imagestreams/app/no-subresource"),
        ("GET", "/apis/image.openshift.io/v1/namespaces/other%22%0aevil/imagestreams/x%22%7d%201"),
        ("BREW", f"{SPACE}/imagestreams"),
        ("BREW", "/nowhere"),
        ("OPTIONS", "/"),
        ("POST", "/hooks/registry"),
        ("GET", f"{SPACE}/imagestreams?watch=nonsense&resourceVersion=x"),
    ],
)
def test_no_label_comes_from_a_url_or_a_method(client: FlaskClient, change, method: str, path: str) -> None:
    client.open(path, method=method)
    labels = only(change(), "imagestream_requests_total")
    resources = {"", "imagestreams"}
    verbs = {"get", "list", "watch", "create", "post", "options", "other"}
    for found in labels:
        parts = dict(part.split("=") for part in found.split(","))
        assert parts["resource"] in resources
        assert parts["verb"] in verbs


def test_strangers_make_no_new_series_however_they_ask(client: FlaskClient) -> None:
    def ask(number: int) -> None:
        odd = f"x{number}"
        for method, path in (
            ("GET", f"/{odd}"),
            ("GET", f"/apis/{odd}/v1/{odd}s"),
            ("GET", f"{SPACE}/imagestreams/{odd}"),
            ("DELETE", f"{SPACE}/imagestreamtags/{odd}:{odd}"),
            ("GET", f"{SPACE}/{odd}/{odd}/{odd}"),
            ("PATCH", f"{SPACE}/imagestreams/{odd}/{odd}"),
            ("GET", f"/apis/image.openshift.io/v1/namespaces/{odd}/imagestreams?fieldSelector={odd}%3D{odd}"),
            (odd.upper(), f"{SPACE}/imagestreams/{odd}"),
            (odd.upper(), f"/{odd}"),
            ("GET", f"/healthz/{odd}"),
            ("POST", f"/hooks/{odd}"),
        ):
            client.open(path, method=method, headers={"User-Agent": odd, "Impersonate-User": odd, "Host": "localhost"})
            client.open(path, method=method, headers={"Audit-ID": odd, "X-Change-Reason": odd})

    ask(0)
    samples(client)
    before = samples(client).keys()
    for number in range(1, 30):
        ask(number)
    assert samples(client).keys() == before
    assert not [name for name in before if "x0" in name.lower()]


def test_a_watch_is_counted_at_its_end_and_without_a_duration(client: FlaskClient, change) -> None:
    with client.get(f"{SPACE}/imagestreams?watch=1&timeoutSeconds=60", buffered=False) as answer:
        next(answer.iter_encoded())
        changes = change()
        assert only(changes, "imagestream_requests_total") == {}
        assert changes["imagestream_watches_open"] == 1
    changes = change()
    assert only(changes, "imagestream_requests_total") == {"code=200,resource=imagestreams,verb=watch": 1}
    assert only(changes, "imagestream_request_duration_seconds_count") == {}
    assert changes["imagestream_watches_open"] == -1


def test_commands_are_counted_by_what_became_of_them(client: FlaskClient, change, monkeypatch) -> None:
    client.post(f"{SPACE}/imagestreams?dryRun=All", json=FIRST)
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    assert only(change(), "imagestream_commands_total") == {
        "outcome=rehearsed": 1,
        "outcome=accepted": 1,
        "outcome=refused": 1,
    }
    store = client.application.extensions["imagestream"].commands.writer._store
    monkeypatch.setattr(store, "writing", failing)
    assert client.delete(f"{SPACE}/imagestreams/app").status_code == 503
    assert only(change(), "imagestream_commands_total") == {"outcome=unavailable": 1}


def failing() -> Any:
    raise OperationalError("no disk")


def test_the_writer_tells_its_queue_and_its_batches(client: FlaskClient, change) -> None:
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    changes = change()
    assert changes["imagestream_writer_batch_size_count"] == 1
    assert changes["imagestream_writer_batch_size_sum"] == 1
    buckets = only(changes, "imagestream_writer_batch_size_bucket")
    assert set(buckets) == {f"le={2**power}.0" for power in range(9)} | {"le=+Inf"}
    assert set(buckets.values()) == {1}
    assert samples(client)["imagestream_writer_queue_depth"] == 0


def test_commands_that_wait_are_told(client: FlaskClient) -> None:
    writer = client.application.extensions["imagestream"].commands.writer
    begun, go_on = threading.Event(), threading.Event()

    def busy(_: Any) -> None:
        begun.set()
        assert go_on.wait(60)

    def wait() -> None:
        writer.execute(Decision(busy, lambda kept: kept, lambda _, kept: kept, lambda *_: True), dry=True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 60
    while samples(client)["imagestream_writer_queue_depth"] < 2:
        assert time.monotonic() < deadline
    go_on.set()
    for thread in threads:
        thread.join()
    assert samples(client)["imagestream_writer_queue_depth"] == 0


def test_views_that_are_behind_are_told(client: FlaskClient, monkeypatch) -> None:
    monkeypatch.setattr(client.application.extensions["imagestream"].queries, "progress", lambda: (7, 5), raising=False)
    found = samples(client)
    assert (found["imagestream_log_position"], found["imagestream_projection_lag_events"]) == (7, 2)


def test_positions_are_told_and_left_out_while_the_store_cannot_be_read(client: FlaskClient, monkeypatch) -> None:
    client.post(f"{SPACE}/imagestreams", json=FIRST)
    found = samples(client)
    assert found["imagestream_log_position"] == 2
    assert found["imagestream_projection_lag_events"] == 0
    monkeypatch.setattr(client.application.extensions["imagestream"].queries._store, "reading", failing)
    found = samples(client)
    assert "imagestream_log_position" not in found
    assert "imagestream_commands_total{outcome=accepted}" in found


def test_imports_are_counted(client: FlaskClient, change) -> None:
    image = {"from": {"kind": "DockerImage", "name": "127.0.0.1:9/team/app:1"}, "to": {"name": "1"}}
    body = {"metadata": {"name": "app"}, "spec": {"import": True, "images": [image]}}
    assert client.post(f"{SPACE}/imagestreamimports", json=body).status_code == 201
    assert only(change(), "imagestream_imports_total") == {"by=client,outcome=failed": 1}


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[FlaskClient]:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    app = create_app(
        Settings(
            data_dir=tmp_path / "listening",
            registry_webhook_secret_file=secret,
            import_controller="off",
            access_log="off",
        )
    )
    yield app.test_client()
    app.extensions["imagestream"].close()


def test_what_the_registry_tells_is_counted(listening: FlaskClient) -> None:
    target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": IMAGE, "repository": "team/app"}
    events = [
        {"id": "1", "action": "pull", "target": target},
        {"id": "2", "action": "push", "target": target},
        {"id": "3"},
    ]
    headers = {"Authorization": "Bearer s3cret"}
    assert listening.post("/hooks/registry", data=json.dumps({"events": events}), headers=headers).status_code == 202
    assert {key: value for key, value in samples(listening).items() if "webhook" in key} == {
        "imagestream_webhook_events_total{outcome=pull}": 1,
        "imagestream_webhook_events_total{outcome=untagged}": 1,
        "imagestream_webhook_events_total{outcome=unknown action}": 1,
    }


def test_the_build_and_the_process_are_told(client: FlaskClient) -> None:
    found = samples(client)
    version = importlib.metadata.version("imagestream-es")
    assert [key for key in found if key.startswith("imagestream_build_info{") and f"version={version}" in key]
    assert found["process_resident_memory_bytes"] > 0


def test_openmetrics_is_spoken_to_those_who_ask_for_it(client: FlaskClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert list(parse_openmetrics(answer.get_data(as_text=True)))


def test_every_application_counts_for_itself(client: FlaskClient, listening: FlaskClient) -> None:
    client.get(f"{SPACE}/imagestreams")
    assert not [key for key in samples(listening) if "resource=imagestreams" in key]


def test_the_path_is_listed(client: FlaskClient) -> None:
    answer: Any = client.get("/").json
    assert "/metrics" in answer["paths"]
