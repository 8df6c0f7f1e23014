"""The commands that ask about the past, against a real service, and who they ask with what."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from imagestream_es.cli import main
from imagestream_es.client.connection import Connection, NoAnswer
from imagestream_es.client.kubeconfig import Access, WrongConfiguration, current

Ask = Callable[..., Result]
IMAGES = "/apis/image.openshift.io/v1/namespaces/shop"


def digest(number: int) -> str:
    return f"sha256:{number:012d}{'0' * 52}"


def push(service: Any, tag: str, number: int) -> None:
    image = {"metadata": {"name": digest(number)}, "dockerImageReference": f"r/web@{digest(number)}"}
    body = json.dumps({"metadata": {"name": "web"}, "tag": tag, "image": image}).encode()
    answer = service.request(f"{IMAGES}/imagestreammappings", "POST", body, {"Content-Type": "application/json"})
    assert answer[0] == 201


@pytest.fixture
def ask(service: Any) -> Ask:
    def ask(*words: str) -> Result:
        return CliRunner().invoke(main, list(words), env={"IMAGESTREAM_SERVER": service.url, "IMAGESTREAM_TOKEN": ""})

    return ask


@pytest.fixture
def incident(service: Any) -> Any:
    """Twenty pushes, a bad move of latest, and the tag v0 deleted."""
    body = json.dumps({"metadata": {"name": "web"}}).encode()
    assert service.request(f"{IMAGES}/imagestreams", "POST", body, {"Content-Type": "application/json"})[0] == 201
    for number in range(20):
        push(service, "latest" if number % 2 else f"v{number % 4}", number)
    push(service, "latest", 666)
    assert service.request(f"{IMAGES}/imagestreamtags/web:v0", "DELETE")[0] == 200
    return service


def items(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_log_of_a_tag_has_every_change_newest_first(incident: Any, ask: Ask) -> None:
    changes = items(ask("log", "shop/web:latest", "-o", "json"))
    assert [change["to"]["image"] for change in changes] == [digest(n) for n in (666, *range(19, 0, -2))]
    heading, newest, *others = ask("log", "shop/web:latest").stdout.splitlines()
    assert heading.split() == ["POSITION", "TIME", "TAG", "ACTION", "FROM", "TO", "ACTOR", "REASON"]
    assert newest.split()[2:] == ["latest", "Moved", digest(19)[:19], digest(666)[:19], "system:unsecured"]
    assert len(others) == 10
    assert newest.index("latest") == heading.index("TAG")


def test_a_log_longer_than_a_page_comes_whole(incident: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask("log", "shop/web").stdout
    monkeypatch.setattr("imagestream_es.client.connection._PAGE", 3)
    assert ask("log", "shop/web").stdout == whole
    assert len(whole.splitlines()) == 23


def test_blame_tells_of_the_tags_that_are_there(incident: Any, ask: Ask) -> None:
    blamed = {one["tag"]: one["to"]["image"] for one in items(ask("blame", "shop/web", "-o", "json"))}
    assert blamed == {"latest": digest(666), "v2": digest(18)}
    assert [line.split()[0] for line in ask("blame", "shop/web").stdout.splitlines()] == ["TAG", "latest", "v2"]


def test_show_goes_back_by_changes_and_by_time(incident: Any, ask: Ask) -> None:
    def image(name: str) -> str:
        (found,) = items(ask("show", name, "-o", "json"))
        return str(found["image"]["metadata"]["name"])

    assert [image(f"shop/web:latest@{{{ago}}}") for ago in (0, 1, 2, 10)] == [digest(n) for n in (666, 19, 17, 1)]
    third = items(ask("log", "shop/web:latest", "-o", "json"))[-1]
    told = ask("show", "shop/web:latest@{10}").stdout
    assert f"(position {third['position']})" in told
    assert f"Image:     {digest(1)}\n" in told
    assert image("shop/web:latest@{2126-03-01T12:00Z}".replace("2126-03-01T12:00Z", third["time"])) in {
        digest(number) for number in (*range(1, 20, 2), 666)
    }


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop/web:latest@{11}", "it had 11 in all"),
        ("shop/web:v0@{0}", "was deleted at position"),
        ("shop/web:latest@{yesterday}", "is no time"),
        ("shop/web:latest@{2001-01-01T00:00Z}", "not found"),
    ],
)
def test_what_can_not_be_shown_is_told_in_one_line(incident: Any, ask: Ask, name: str, told: str) -> None:
    refused = ask("show", name)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert told in refused.stderr


def test_diff_and_where_answer_what_a_responder_asks(incident: Any, ask: Ask) -> None:
    before = items(ask("log", "shop/web:latest", "-o", "json"))[1]["position"]
    changed = {one["tag"]: one["change"] for one in items(ask("diff", "shop", str(before), "-o", "json"))}
    assert changed == {"latest": "Moved", "v0": "Removed"}
    (heading, used) = ask("where", digest(666)).stdout.splitlines()
    assert heading.startswith("NAMESPACE  STREAM")
    assert used.split()[:3] == ["shop", "web", "latest"]
    assert used.endswith("now")
    (gone,) = items(ask("where", digest(16), "-n", "shop", "-o", "json"))
    assert gone["until"]["position"] > gone["since"]["position"]


def test_the_history_of_a_deleted_stream_is_still_read(incident: Any, ask: Ask) -> None:
    before = len(items(ask("log", "shop/web", "-o", "json")))
    assert incident.request(f"{IMAGES}/imagestreams/web", "DELETE")[0] == 200
    changes = items(ask("log", "shop/web", "-o", "json"))
    assert len(changes) == before + 2
    assert {change["action"] for change in changes[:2]} == {"Deleted"}
    (shown,) = items(ask("show", "shop/web:latest@{1}", "-o", "json"))
    assert shown["image"]["metadata"]["name"] == digest(666)
    assert "no tag of that stream" in ask("blame", "shop/web").stderr


def test_a_bad_move_is_taken_back_once_it_is_what_was_expected(incident: Any, ask: Ask) -> None:
    back = ("rollback", "shop/web:latest", "--changes-ago", "1", "--reason", "the next one crashes")
    before = ask("log", "shop/web").stdout
    moved = ask(*back, "--expected-image", digest(3))
    assert (moved.exit_code, moved.stderr.count("\n")) == (1, 1)
    assert digest(666) in moved.stderr
    rehearsed = ask(*back, "--dry-run", "--expected-image", digest(666))
    assert rehearsed.stdout.startswith(f"Would move shop/web:latest from {digest(666)[:19]} to {digest(19)[:19]}")
    assert ask("log", "shop/web").stdout == before
    done = ask(*back, "--expected-image", digest(666))
    assert done.stdout.startswith(f"Moved shop/web:latest from {digest(666)[:19]} to {digest(19)[:19]} at position")
    newest = items(ask("log", "shop/web:latest", "-o", "json"))[0]
    assert (newest["action"], newest["to"]["image"]) == ("Reverted", digest(19))
    assert newest["reason"] == "the next one crashes"
    assert "--changes-ago" in ask("rollback", "shop/web:latest").stderr
    (again,) = items(ask("rollback", "shop/web:latest", "--to-image", digest(19), "-o", "json"))
    assert "position" not in again["status"]


def test_a_reader_that_goes_away_early_is_no_error(incident: Any) -> None:
    command = Path(sys.executable).with_name("imagestream-es")
    ended = subprocess.run(
        ["bash", "-c", f"{command} log --server {incident.url} shop/web | head -1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("POSITION")
    assert ended.stderr == ""


@pytest.mark.parametrize("name", ["web", "shop/web@{1}", "shop/web:a/b", "Shop/web", "shop/../web", "shop/web:"])
def test_a_name_of_another_form_is_refused_before_anything_is_asked(name: str) -> None:
    refused = CliRunner().invoke(main, ["log", "--server", "http://127.0.0.1:1", name])
    assert refused.exit_code == 2
    assert "is not of the form NAMESPACE/STREAM[:TAG]" in refused.stderr


def test_a_service_that_is_not_there_is_told_in_one_line() -> None:
    refused = CliRunner().invoke(main, ["log", "--server", "http://127.0.0.1:1", "shop/web"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "does not answer" in refused.stderr


def test_a_server_that_is_another_program_is_told(service: Any) -> None:
    with pytest.raises(NoAnswer, match="not as this service does") as refused:
        Connection(Access(f"{service.url}/docs")).get("/x")
    assert refused.value.code == 404


def test_a_token_does_not_go_over_the_wire_in_the_clear() -> None:
    with pytest.raises(WrongConfiguration, match="https"):
        Connection(Access("http://example.com", "secret"))
    Connection(Access("http://127.0.0.1:8080", "secret"))


# --- kubeconfig


def written(directory: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, name: str = "config") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://images:8443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_without_a_kubeconfig_the_service_is_on_this_machine(tmp_path: Path) -> None:
    assert current({}, tmp_path) == Access("http://127.0.0.1:8080")


def test_the_current_context_says_where_and_who(tmp_path: Path) -> None:
    ca = base64.b64encode(b"PEM").decode()
    written(tmp_path / ".kube", {"token": "secret"}, {"certificate-authority-data": ca})
    assert current({}, tmp_path) == Access("https://images:8443", "secret", "PEM")


def test_files_are_named_from_where_the_kubeconfig_is(tmp_path: Path) -> None:
    for name, text in {"ca": "CA", "cert": "C", "key": "K", "token": "secret\n"}.items():
        (tmp_path / name).write_text(text)
    user = {"tokenFile": "token", "client-certificate": "cert", "client-key": "key"}
    path = written(tmp_path, user, {"certificate-authority": "ca"})
    found = current({"KUBECONFIG": f"{tmp_path / 'missing'}:{path}"}, tmp_path)
    assert found == Access("https://images:8443", "secret", "CA", "C", "K")


def test_a_cluster_may_say_that_its_certificate_does_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, {}, {"insecure-skip-tls-verify": True})
    assert current({"KUBECONFIG": str(path)}, tmp_path).verify is False


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ({"exec": {"command": "aws"}}, "--token"),
        ({"tokenFile": "nowhere"}, "tokenFile"),
        ({"client-certificate-data": "%"}, "client-certificate"),
    ],
)
def test_what_can_not_be_used_of_a_kubeconfig_is_told(tmp_path: Path, user: dict[str, Any], told: str) -> None:
    path = written(tmp_path, user)
    with pytest.raises(WrongConfiguration, match=told):
        current({"KUBECONFIG": str(path)}, tmp_path)


@contextmanager
def losing(service: Any, answers: int) -> Iterator[str]:
    """The URL of the service behind a proxy that loses its first answers."""
    lost = iter(range(answers))

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = service.request(self.path, "POST", body, dict(self.headers.items()))
            if next(lost, None) is None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_rollback_whose_answer_is_lost_is_asked_for_again_and_done_once(ask: Ask, incident: Any) -> None:
    command = ("rollback", "shop/web:latest", "--changes-ago", "1", "-o", "json")
    before = len(items(ask("log", "shop/web:latest", "-o", "json")))
    with losing(incident, 1) as url:
        (found,) = items(ask(*command, "--server", url))
    assert found["status"]["to"]["image"] == digest(19)
    assert len(items(ask("log", "shop/web:latest", "-o", "json"))) == before + 1
    with losing(incident, 2) as url:
        told = ask(*command, "--server", url)
    assert told.exit_code == 1
    assert "whether it was done is unknown" in told.stderr
