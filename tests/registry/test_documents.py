"""Documents that are plain are read at once, others key by key; what is read is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.registry import documents
from imagestream_es.registry.documents import read_config, read_manifest, read_metadata

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
numbers = st.sampled_from([0, 1, 2, -1, 2**63 - 1, -(2**63) + 1])
odd = st.sampled_from(
    [
        None,
        "",
        "x",
        0,
        1,
        1.0,
        2.5,
        True,
        False,
        2**63,
        -(2**63),
        [],
        {},
        [None],
        ["x", None],
        [1],
        {"x": None},
        {"x": 1},
    ]
)
annotations = st.dictionaries(texts, texts, max_size=2)


def an_object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields in any order, a few of them spelt or filled otherwise than they should be."""
    pairs = [
        st.tuples(st.sampled_from([name] * 8 + [name.upper(), name.lower()]), st.one_of(*[right] * 8, odd))
        for name, right in fields.items()
    ]
    return st.lists(st.one_of(pairs), max_size=6).map(dict)


descriptors = an_object(digest=texts, mediaType=texts, size=numbers, annotations=annotations, urls=st.lists(texts))
manifests = an_object(
    schemaVersion=st.just(2),
    mediaType=texts,
    artifactType=texts,
    config=descriptors,
    layers=st.lists(descriptors, max_size=3),
    manifests=st.lists(
        an_object(digest=texts, size=numbers, platform=an_object(architecture=texts, os=texts, variant=texts)),
        max_size=2,
    ),
    fsLayers=st.lists(an_object(blobSum=texts), max_size=2),
    history=st.lists(an_object(v1Compatibility=texts), max_size=2),
    annotations=annotations,
)
container_configs = an_object(
    User=texts,
    Memory=numbers,
    Tty=st.booleans(),
    Env=st.lists(texts, max_size=2),
    ExposedPorts=st.dictionaries(texts, st.just({}), max_size=2),
    Labels=annotations,
    StopSignal=texts,
    Healthcheck=annotations,
)
times = st.sampled_from(["2024-03-01T12:00:00.123456789Z", "2016-01-29T15:40:00+02:00", "0001-01-01T00:00:00Z", "now"])
configs = an_object(
    architecture=texts,
    created=times,
    config=container_configs,
    container_config=container_configs,
    author=texts,
    size=numbers,
    os=texts,
    history=st.lists(annotations, max_size=1),
)
metadata = an_object(
    kind=st.just("DockerImage"),
    Id=texts,
    Created=times,
    Config=container_configs,
    ContainerConfig=container_configs,
    Size=numbers,
)

Read = Callable[[Any], Any]


def outcome(read: Read, document: Any) -> Any:
    """What is read of a document, in its order, or why it cannot be."""
    try:
        return json.dumps(without_annotations(msgspec.to_builtins(read(document))))
    except ValueError as error:
        return error.args


def without_annotations(found: Any) -> Any:
    """What was read, less what tells nothing."""
    if isinstance(found, list):
        return [without_annotations(item) for item in found]
    if isinstance(found, dict):
        return {name: without_annotations(item) for name, item in found.items() if name != "annotations"}
    return found


ODD = {"of no use": 1}
"""With an unknown key no document is plain."""


@given(manifests)
def test_a_manifest_is_read_the_same_with_an_unknown_key(manifest: dict[str, Any]) -> None:
    assert outcome(read_manifest, json.dumps(manifest)) == outcome(read_manifest, json.dumps(manifest | ODD))


@given(configs)
def test_a_config_is_read_the_same_with_an_unknown_key(config: dict[str, Any]) -> None:
    assert outcome(read_config, json.dumps(config)) == outcome(read_config, json.dumps(config | ODD))


@given(metadata)
def test_metadata_of_a_client_is_read_the_same_with_an_unknown_key(sent: dict[str, Any]) -> None:
    assert outcome(read_metadata, sent) == outcome(read_metadata, sent | ODD)


ANYTHING = ['"', "\\", "\\ud800", "\x00", "0", "-", ",", "{", "[", " ", "\ufeff"]


@given(manifests, st.integers(0, 300), st.integers(0, 2), st.sampled_from(ANYTHING))
def test_a_broken_text_is_no_more_readable_without_an_unknown_key(
    manifest: dict[str, Any], at: int, cut: int, what: str
) -> None:
    rest = json.dumps(manifest, ensure_ascii=False)[1:]
    rest = rest[:at] + what + rest[at + cut :]
    comma = "" if rest.lstrip()[:1] == "}" else ","
    found = [outcome(read_manifest, text + rest) for text in ("{", '{"of no use": 1' + comma)]
    plain, other = (one if isinstance(one, str) else None for one in found)
    assert plain == other


DATA = Path(__file__).parents[1] / "data/registry/images"


def test_documents_of_usual_images_are_not_read_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_read", None)
    configs = [path for path in DATA.glob("**/config.json") if path.with_name("image.pushed.json").exists()]
    assert configs
    for config in configs:
        assert read_config(config.read_text())["Architecture"]
        assert read_manifest(config.with_name("manifest.json").read_text()).layers
        image = json.loads(config.with_name("image.pushed.json").read_text())
        assert read_metadata(image["dockerImageMetadata"])


def test_no_class_is_new_to_msgspec_when_threads_come_to_use_it() -> None:
    """Two that use one for the first time at once crash the process."""
    program = """
import sys
from imagestream_es.registry import documents

def note(frame, event, _):
    assert frame.f_code.co_name != "get_class_annotations", "msgspec studies a class"

sys.setprofile(note)
documents.read_manifest(b"{}")
documents.read_config(b"{}")
documents.read_metadata({})
for document in (documents.Descriptor, documents.SentLayer, documents.SentPart, documents.V1Size):
    documents.read_or_nothing(document, {})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
