"""The reference for people: what is on the page, that its examples work, and what browsers may do with it."""

import hashlib
import re
import subprocess
from base64 import b64encode
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from flask.testing import FlaskClient

from api.groups import GROUPS
from api.openapi import documents


class Page(HTMLParser):
    """The parts of a page that tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.code: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes |= set(found)
        self._open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "pre":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.code[-1] += data


@pytest.fixture
def page(client: FlaskClient) -> Page:
    answer = client.get("/docs")
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    return Page(answer.text)


def text_of(html: str) -> str:
    """What is to be read of a piece of HTML, without breaks."""
    return re.sub(r"<[^>]*>", "", html)


SECTIONS = {
    resource.kind: f"{resource.name}.{door.group or 'core'}"
    for door, resources in sorted(GROUPS.items(), key=lambda item: item[0].group)
    if not door.legacy
    for resource in resources
}
"""The anchor of every kind; a kind of two groups is told in the one that has a name."""


def test_every_kind_has_a_section_and_a_link_to_it(page: Page) -> None:
    assert len(SECTIONS) > 10
    for kind, anchor in SECTIONS.items():
        assert page.ids.count(anchor) == 1
        assert f"#{anchor}" in page.links
        assert f"<h2>{kind}</h2>" in page.text


def test_every_link_within_the_page_leads_somewhere(page: Page) -> None:
    within = {link for link in page.links if link.startswith("#")}
    assert len(within) > 20
    assert {link[1:] for link in within} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_every_link_to_the_server_leads_somewhere(page: Page, client: FlaskClient) -> None:
    outside = {link for link in page.links if not link.startswith("#")}
    assert "/openapi/v3" in outside
    assert {link: client.get(link).status_code for link in outside} == dict.fromkeys(outside, 200)


def test_every_operation_is_on_the_page_but_the_old_spellings(page: Page) -> None:
    lines = {text_of(line) for line in re.findall(r"<summary>(.*?)</summary>", page.text)}
    expected = {
        method.upper() + path + operation["summary"]
        for document in documents(GROUPS).values()
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters" and not path.endswith("/") and "/ungrouped" not in path
    }
    assert lines == {line for line in expected if "/v1/watch/" not in line}
    assert len(lines) > 40


def test_fields_are_shown_down_to_the_last_with_types_and_values(page: Page) -> None:
    rows = [text_of(row) for row in re.findall(r"<tr>(.*?)</tr>", page.text, re.DOTALL)]
    assert any(row.split()[:2] == ["spec.tags[].importPolicy.scheduled", "boolean"] for row in rows)
    assert any(row.split()[:2] == ["status.tags[].items[].dockerImageReference", "string"] for row in rows)
    (mode,) = {row for row in rows if row.split()[:1] == ["spec.tags[].importPolicy.importMode"]}
    assert mode.rstrip().endswith("One of Legacy, PreserveOriginal.")


def test_what_documents_say_cannot_become_markup(page: Page) -> None:
    assert "&lt;&lt;&#39;END&#39;" in page.text
    assert not {"script", "iframe", "img", "link", "object", "form"} & set(page.tags)
    assert not {name for name in page.attributes if name.startswith("on") or name in ("style", "src", "action")}


def test_browsers_may_only_show_the_page(client: FlaskClient) -> None:
    answer = client.get("/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_has_a_light_and_a_dark_face(page: Page) -> None:
    assert "prefers-color-scheme: dark" in page.text
    assert page.text.startswith("<!doctype html>")


def test_who_has_the_page_is_not_sent_it_again(client: FlaskClient) -> None:
    first = client.get("/docs")
    again = client.get("/docs", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Security-Policy" in again.headers


def test_the_examples_work_as_they_stand(service, require: Callable[[str], str]) -> None:
    require("curl")
    _, body = service.request("/docs")
    examples = [
        code
        for code in Page(body.decode()).code
        if "curl" in code and "watch=true" not in code and "/imagestreamimports" not in code  # asks a real registry
    ]
    creating = [code for code in examples if "<<" in code]
    assert len(creating) > 5
    streams_first = sorted(creating, key=lambda code: "/imagestreams " not in code)
    reading = [code for code in examples if code not in creating and "/NAME" not in code]
    for code in (*streams_first, *reading):
        answer = subprocess.run(
            ["bash", "-c", code.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
            env={"SERVER": service.url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == 0, f"{code}\n{answer.stdout}{answer.stderr}"
