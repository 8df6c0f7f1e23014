"""Many at once who move one tag: each who names the image that it must have wins or loses, and nobody in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import create_app
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/shop"
ROLLBACKS = "/apis/history.imagestream-es.io/v1/namespaces/shop/rollbacks"
RIVALS, ROUNDS = 8, 12
FIRST = f"sha256:{0:064x}"

Service = Callable[[], FlaskClient]


@pytest.fixture(params=["one service", "two services on one database"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """Gives clients of the services in turn; the tag web:a names FIRST."""
    shared = request.param != "one service"
    url = request.getfixturevalue("postgres_url") if shared else None
    apps = [
        create_app(
            Settings(data_dir=tmp_path / str(number), database_url=url, import_controller="off", access_log="off")
        )
        for number in range(2 if shared else 1)
    ]
    turns = cycle(apps)
    client = apps[0].test_client()
    assert client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}).status_code == 201
    assert push(client, "a", FIRST).status_code == 201
    yield lambda: next(turns).test_client()
    for app in apps:
        app.extensions["imagestream"].close()


def push(client: FlaskClient, tag: str, image: str, expected: str = "") -> TestResponse:
    reference = f"registry.example.com/shop/web@{image}"
    body = {
        "metadata": {"name": "web"},
        "tag": tag,
        "image": {"metadata": {"name": image}, "dockerImageReference": reference},
    }
    headers = {"If-Match": f'"{expected}"'} if expected else None
    return client.post(f"{SPACE}/imagestreammappings", json=body, headers=headers)


def follow(client: FlaskClient, image: str, expected: str) -> TestResponse:
    """Have the tag take its image by its spec."""
    body = {"metadata": {"name": "web:a"}, "tag": {"from": {"kind": "ImageStreamImage", "name": f"web@{image}"}}}
    return client.put(f"{SPACE}/imagestreamtags/web:a", json=body, headers={"If-Match": f'"{expected}"'})


def forget_spec(client: FlaskClient) -> None:
    """Leave the tag its images alone."""
    answer = client.patch(
        f"{SPACE}/imagestreams/web", json={"spec": {"tags": None}}, content_type="application/merge-patch+json"
    )
    assert answer.status_code == 200


def roll_back(client: FlaskClient, expected: str) -> TestResponse:
    spec = {"stream": "web", "tag": "a", "changesAgo": 1, "expectedImage": expected}
    return client.post(ROLLBACKS, json={"spec": spec})


def at_once(acts: Sequence[Callable[[], TestResponse]]) -> list[TestResponse]:
    gate = threading.Barrier(len(acts))

    def one(act: Callable[[], TestResponse]) -> TestResponse:
        gate.wait(60)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(one, acts))


def image_of(client: FlaskClient) -> str:
    return str(client.get(f"{SPACE}/imagestreamtags/web:a").get_json()["image"]["metadata"]["name"])


def test_of_many_who_expect_the_same_image_exactly_one_moves_the_tag(service: Service) -> None:
    now, won = FIRST, 0
    for turn in range(1, ROUNDS + 1):
        images = [f"sha256:{turn * 100 + rival:064x}" for rival in range(RIVALS)]
        others = [f"sha256:{turn * 100 + 50 + rival:064x}" for rival in range(2)]
        acts = [partial(push, service(), "a", image, now) for image in images]
        # Pushes to another tag of the stream are in nobody's way, and nobody is in theirs.
        acts += [partial(push, service(), "b", image) for image in others]
        answers = at_once(acts)
        rivals = answers[:RIVALS]
        assert sorted(one.status_code for one in rivals) == [201, *[412] * (RIVALS - 1)]
        assert [one.status_code for one in answers[RIVALS:]] == [201] * 2
        now = images[[one.status_code for one in rivals].index(201)]
        assert all(now in one.get_json()["message"] for one in rivals if one.status_code == 412)
        assert image_of(service()) == now
        won += 1
    items = service().get(f"{SPACE}/imagetags/web:a").get_json()["status"]["items"]
    assert len(items) == won + 1


def test_a_push_a_write_of_the_spec_and_a_rollback_that_expect_the_same_image_exclude_each_other(
    service: Service,
) -> None:
    second = f"sha256:{1:064x}"
    assert push(service(), "a", second).status_code == 201
    now, before = second, FIRST
    for turn in range(1, ROUNDS + 1):
        new = f"sha256:{turn * 100:064x}"
        forget_spec(service())  # a spec that is there already would move nothing
        acts = [
            partial(push, service(), "a", new, now),
            partial(follow, service(), before, now),
            partial(roll_back, service(), now),
            partial(roll_back, service(), now),
        ]
        answers = at_once(acts)
        codes = [one.status_code for one in answers]
        assert sorted(codes)[1:] == [412] * 3
        assert min(codes) in (200, 201)
        found = image_of(service())
        assert found in (new, before)
        now, before = found, now
