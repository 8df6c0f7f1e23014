"""What the real `oc` sent to a real server, sent again: our answers must say the same.

The requests were recorded with the answers of OpenShift's own image API server. Versions, uids and times are
ours, so those of the recording are translated on the way in and not compared on the way out.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from api import create_app
from imagestream_es.settings import Settings

CONVERSATIONS = Path(__file__).parents[3] / "shared" / "data" / "oc" / "conversations.json"
REGISTRY = "image-registry.openshift-image-registry.svc:5000"
GROUP = "/apis/image.openshift.io/v1"

OURS = {"uid", "resourceVersion", "continue"}
"""Values of the server's own making, which later requests send back."""
TIMES = {"creationTimestamp", "created", "time", "lastTransitionTime", "openshift.io/image.dockerRepositoryCheck"}
# Who owns a field is told by managedFields as far as clients need it; upstream's list holds more of status.
UNCOMPARED = OURS | TIMES | {"managedFields", "selfLink"}
# Words for people are our own.
UNCOMPARED |= {"description"}
# An alias copies its source's entry; the real server lets the source's generation change with it, by accident.
ACCIDENT = re.compile(r"\.status\.tags\[\d+\]\.items\[0\]\.generation")


OLDER = "sha256:559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd"
"""An image that the real server knew, from another stream, before it was mapped in the recording."""


ANOTHER_PUSHED = 72
"""From this command on the real server shows a push that oc did not make: only the status codes are compared."""


def older_image() -> dict[str, Any]:
    bodies = (request.get("requestBody") or "" for command in commands() for request in command["requests"])
    mapping = next(json.loads(body) for body in bodies if "ImageStreamMapping" in body and OLDER in body)
    return mapping["image"] | {"dockerImageReference": f"{REGISTRY}/golden/app@{OLDER}"}


def commands() -> list[dict[str, Any]]:
    if not CONVERSATIONS.exists():
        pytest.skip(f"needs the recorded conversations in {CONVERSATIONS}")
    return json.loads(CONVERSATIONS.read_text())["commands"]


class Translation:
    """From the recording's versions and uids to ours."""

    def __init__(self) -> None:
        self._ours: dict[tuple[str, str], str] = {}

    def learn(self, recorded: Any, ours: Any) -> None:
        if isinstance(recorded, dict) and isinstance(ours, dict):
            for key in recorded.keys() & ours.keys():
                if key in OURS and isinstance(recorded[key], str) and isinstance(ours[key], str):
                    self._ours[key, recorded[key]] = ours[key]
                else:
                    self.learn(recorded[key], ours[key])
        elif isinstance(recorded, list) and isinstance(ours, list):
            for one, other in zip(recorded, ours, strict=False):
                self.learn(one, other)

    def body(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: self._ours.get((key, item), item) if key in OURS and isinstance(item, str) else self.body(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.operation(item) for item in value]
        return value

    def operation(self, item: Any) -> Any:
        """JSON patch operations name the key in a path."""
        if isinstance(item, dict) and str(item.get("path", "")).endswith("/resourceVersion"):
            return item | {"value": self._ours.get(("resourceVersion", item["value"]), item["value"])}
        return self.body(item)

    def path(self, path: str) -> str:
        def ours(match: re.Match[str]) -> str:
            key, value = match.group(1), unquote(match.group(2))
            return f"{key}={self._ours.get((key, value), value)}"

        return re.sub(r"\b(resourceVersion|continue)=([^&]+)", ours, path)


def differences(recorded: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for key, value in recorded.items():
            if key not in UNCOMPARED:
                yield from differences(value, ours.get(key), f"{path}.{key}")
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        if path.endswith((".rows", ".items")):  # the real server lists tags in any order
            recorded, ours = sorted(recorded, key=_name), sorted(ours, key=_name)
        for index, (one, other) in enumerate(zip(recorded, ours, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif isinstance(recorded, str) and recorded.endswith(" ago") and str(ours).endswith(" ago"):
        return
    elif str(recorded).startswith(FAILURE) and str(ours).startswith(FAILURE):
        return  # why a registry could not be reached is told in the client's own words
    elif ACCIDENT.fullmatch(path) or path.endswith((".cells[2]", ".details")):
        return  # tags changed within one second have no order; details repeat the message
    elif recorded != ours and not (recorded in (None, "", [], {}) and ours in (None, "", [], {})):
        yield f"{path}: recorded {json.dumps(recorded)[:3000]}, ours {json.dumps(ours)[:3000]}"


def _name(item: Any) -> str:
    """The name of an object or a row; entries of a history have none, and keep their order."""
    metadata = item.get("metadata") or (item.get("object") or {}).get("metadata") or {}
    return f"{metadata.get('namespace')}/{metadata.get('name')}" if metadata else ""


FAILURE = "Internal error occurred: "


def answers(text: str) -> list[Any]:
    """The JSON document of a body, if it is one."""
    try:
        return [json.loads(text)]
    except ValueError:
        return []


@pytest.fixture
def app_client(tmp_path: Path):
    settings = Settings(
        data_dir=tmp_path / "data", internal_registry=REGISTRY, import_allow=("127.0.0.1",), import_controller="off"
    )
    app = create_app(settings)
    yield app.test_client()
    app.extensions["imagestream"].close()


def test_the_recorded_commands_of_oc_are_answered_alike(app_client) -> None:
    translation, problems = Translation(), []
    assert app_client.post(f"{GROUP}/images", json=older_image()).status_code == 201
    for number, command in enumerate(commands()):
        for request in command["requests"]:
            if not request["path"].startswith(GROUP) or "watch=true" in request["path"]:
                continue  # the rest was a stub's; watches have tests of their own
            if command["command"] in ("oc get images", "oc get is -A"):
                continue  # the real server held more than this recording made
            body = request.get("requestBody")
            if body:
                body = (
                    body if "yaml" in (request["contentType"] or "") else json.dumps(translation.body(json.loads(body)))
                )
            answer = app_client.open(
                translation.path(request["path"]),
                method=request["method"],
                data=body or None,
                headers={"Accept": request["accept"] or "*/*", "User-Agent": "oc/4.20"},
                content_type=request["contentType"] or None,
            )
            where = f"{number} {command['command']}: {request['method']} {request['path']}"
            if answer.status_code != request["code"]:
                problems.append(f"{where}: recorded {request['code']}, ours {answer.status_code} {answer.text[:300]}")
            for recorded, ours in zip(answers(request["responseBody"]), answers(answer.text), strict=False):
                translation.learn(recorded, ours)
                if number < ANOTHER_PUSHED:
                    problems += [f"{where}\n    {difference}" for difference in differences(recorded, ours)]
    assert not problems, "\n".join(problems)
