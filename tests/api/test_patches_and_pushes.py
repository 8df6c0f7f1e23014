"""A patch that names no resourceVersion is never refused because others push meanwhile."""

import hashlib
import threading

from flask.testing import FlaskClient

GROUP = "/apis/image.openshift.io/v1/namespaces/busy"
MERGE = "application/merge-patch+json"


def test_patches_get_through_while_a_stream_is_pushed_to(client: FlaskClient) -> None:
    client.post(f"{GROUP}/imagestreams", json={"metadata": {"name": "web"}})
    spec = {"metadata": {"name": "web:kept"}, "tag": {"from": {"kind": "DockerImage", "name": "example.test/web:1"}}}
    client.post(f"{GROUP}/imagestreamtags", json=spec)
    stop = threading.Event()
    pushed: list[int] = []

    def push(worker: int) -> None:
        pusher = client.application.test_client()
        number = 0
        while not stop.is_set():
            number += 1
            digest = hashlib.sha256(f"{worker} {number % 5}".encode()).hexdigest()
            image = {"metadata": {"name": f"sha256:{digest}"}}
            body = {"metadata": {"name": "web"}, "tag": f"t{worker}", "image": image}
            pushed.append(pusher.post(f"{GROUP}/imagestreammappings", json=body).status_code)

    threads = [threading.Thread(target=push, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    try:
        codes = []
        for number in range(15):
            labels = {"metadata": {"labels": {"number": str(number)}}}
            codes.append(client.patch(f"{GROUP}/imagestreams/web", json=labels, content_type=MERGE).status_code)
            policy = {"spec": {"importPolicy": {"scheduled": number % 2 == 0}}}
            codes.append(client.patch(f"{GROUP}/imagetags/web:kept", json=policy, content_type=MERGE).status_code)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(codes) == {200}
    assert set(pushed) == {201}
    assert len(pushed) > len(codes)
    assert client.get(f"{GROUP}/imagestreams/web").json["metadata"]["labels"] == {"number": "14"}
