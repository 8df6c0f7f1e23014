"""Images from manifests and configs, beside what OpenShift made of the same ones."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.registry.manifests import (
    DOCKER_LIST,
    LAYERS_ORDER,
    MANIFEST_BLOB_STORED,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA2,
    Image,
    InvalidManifest,
    complete_image,
    image_from_import,
    image_from_push,
    index_parts,
    is_artifact,
    update_image,
    validate_manifests,
)

DATA = Path(__file__).parents[1] / "data/registry/images"
REGISTRY = "registry.example.test:5000"
NOW = "<time of import>"
GOLDEN = [
    (directory, case["repository"], entry["digest"], entry["contentType"])
    for case in json.loads((DATA / "cases.json").read_text())
    for directory, entry in [
        (DATA / case["case"], case),
        *((DATA / case["case"] / sub["dir"], sub) for sub in case["subs"]),
    ]
]
golden = pytest.mark.parametrize(
    ("directory", "repository", "digest", "content_type"), GOLDEN, ids=[str(g[0].relative_to(DATA)) for g in GOLDEN]
)


def blobs(directory: Path) -> tuple[bytes, bytes | None]:
    config = directory / "config.json"
    return (directory / "manifest.json").read_bytes(), config.read_bytes() if config.exists() else None


def assert_is_golden(image: Image, path: Path) -> None:
    expected = json.loads(path.read_text())
    expected.pop("kind")
    expected.pop("apiVersion")
    assert sorted(image) == sorted(expected)
    for field, value in expected.items():
        if isinstance(value, dict):
            assert sorted(image[field]) == sorted(value)
            for name, item in value.items():
                assert image[field][name] == item, f"{field}.{name}"
        else:
            assert image[field] == value, field


@golden
def test_a_push_makes_the_image_that_openshift_makes(
    directory: Path, repository: str, digest: str, content_type: str
) -> None:
    manifest, config = blobs(directory)
    image = image_from_push(manifest, content_type, config, f"{REGISTRY}/{repository}", now=NOW)
    assert image["metadata"]["name"] == digest
    assert_is_golden(image, directory / "image.pushed.json")


@golden
def test_an_import_makes_the_image_that_openshift_makes(
    directory: Path, repository: str, digest: str, content_type: str
) -> None:
    manifest, config = blobs(directory)
    image = image_from_import(manifest, content_type, config, f"{REGISTRY}/{repository}:any", now=NOW)
    assert image["metadata"]["name"] == digest
    assert_is_golden(image, directory / "image.imported.json")


@pytest.mark.parametrize("path", sorted(DATA.glob("*/imagestreammapping.json")), ids=lambda path: path.parent.name)
def test_a_mapping_of_a_registry_makes_the_image_that_openshift_makes(path: Path) -> None:
    sent = json.loads(path.read_text())["image"]
    before = copy.deepcopy(sent)
    assert_is_golden(complete_image(sent, now=NOW), path.parent / "image.pushed.json")
    assert sent == before


def test_a_stored_image_is_complete() -> None:
    for path in sorted(DATA.glob("**/image.*.json")):
        stored = {
            key: value for key, value in json.loads(path.read_text()).items() if key not in {"kind", "apiVersion"}
        }
        if "dockerImageManifests" not in stored:
            assert complete_image(stored) == stored


@pytest.mark.parametrize("case", ["oci-index", "docker-list", "oci-index-attested"])
def test_an_index_names_its_parts_in_order(case: str) -> None:
    [subs] = [entry["subs"] for entry in json.loads((DATA / "cases.json").read_text()) if entry["case"] == case]
    parts = index_parts((DATA / case / "manifest.json").read_bytes())
    assert [(part["digest"], part["mediaType"]) for part in parts] == [(s["digest"], s["contentType"]) for s in subs]
    assert parts == json.loads((DATA / case / "image.pushed.json").read_text())["dockerImageManifests"]


def test_the_manifest_of_one_image_names_no_parts() -> None:
    assert index_parts((DATA / "oci-gzip/manifest.json").read_bytes()) == []


def test_an_index_that_does_not_say_what_it_is_is_what_the_registry_says() -> None:
    manifest = (DATA / "index-without-mediatype/manifest.json").read_bytes()
    image = image_from_push(manifest, f"{OCI_INDEX}; charset=utf-8", None, f"{REGISTRY}/a/b", now=NOW)
    assert image["dockerImageManifestMediaType"] == OCI_INDEX
    assert image["dockerImageMetadata"]["Id"] == image["metadata"]["name"]
    assert image["dockerImageMetadata"]["Created"] == NOW
    assert [part["architecture"] for part in image["dockerImageManifests"]] == ["arm64"]
    assert validate_manifests(image) == []


def test_an_index_without_platforms_is_not_valid() -> None:
    manifest = (DATA / "index-without-platform/manifest.json").read_bytes()
    image = image_from_push(manifest, OCI_INDEX, None, f"{REGISTRY}/a/b")
    assert [(problem.field, problem.reason) for problem in validate_manifests(image)] == [
        ("dockerImageManifests[0].architecture", "FieldValueRequired"),
        ("dockerImageManifests[0].os", "FieldValueRequired"),
    ]


def test_only_images_and_indexes_are_no_artifacts() -> None:
    assert is_artifact((DATA / "artifact-ignored/manifest.json").read_bytes())
    for path in sorted(DATA.glob("**/manifest.json")):
        assert is_artifact(path.read_bytes()) == ("artifact-ignored" in path.parts)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}, False),
        ({"config": {"mediaType": "application/vnd.docker.container.image.v1+json"}, "artifactType": ""}, False),
        ({"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "artifactType": "x/y"}, True),
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}, True),
        ({"config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "manifests": []}, True),
        ({"manifests": []}, False),
        ({"manifests": [], "artifactType": "x/y"}, True),
        ({}, True),
    ],
)
def test_the_type_of_the_config_tells_images_from_artifacts(document: dict[str, Any], expected: bool) -> None:
    assert is_artifact(orjson.dumps(document)) is expected


@pytest.mark.parametrize("manifest", [b"", b"no", b"[]", b'{"layers": 1}', b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_bytes_that_are_no_manifest_are_refused(manifest: bytes) -> None:
    for read in (index_parts, is_artifact):
        with pytest.raises(InvalidManifest):
            read(manifest)
    for make in (image_from_push, image_from_import):
        with pytest.raises(InvalidManifest, match="cannot be read"):
            make(manifest, SCHEMA2, b"{}", "a/b")


@pytest.mark.parametrize("media_type", ["", "application/json", SCHEMA1])
def test_manifests_of_other_types_are_refused(media_type: str) -> None:
    for make in (image_from_push, image_from_import):
        with pytest.raises(InvalidManifest, match="unsupported manifest type"):
            make(b'{"schemaVersion": 2}', media_type, b"{}", "a/b")


@pytest.mark.parametrize("config", [None, b"", b"no", b"[]", b"\xff", b'{"created": "yesterday"}'])
def test_an_import_needs_a_config_that_can_be_read_and_a_push_does_not(config: bytes | None) -> None:
    manifest = SMALL_MANIFEST.encode()
    with pytest.raises(InvalidManifest, match="config cannot be read"):
        image_from_import(manifest, SCHEMA2, config, "a/b")
    pushed = image_from_push(manifest, SCHEMA2, config, "a/b")
    assert pushed["dockerImageLayers"] == SMALL_LAYERS
    assert pushed["dockerImageMetadata"] == EMPTY_METADATA


def test_an_import_shows_manifest_and_config_on_demand() -> None:
    image = image_from_import(SMALL_MANIFEST.encode(), SCHEMA2, SMALL_CONFIG.encode(), "a/b", include_manifest=True)
    assert image.pop("dockerImageManifest") == SMALL_MANIFEST
    assert image.pop("dockerImageConfig") == SMALL_CONFIG
    assert image == image_from_import(SMALL_MANIFEST.encode(), SCHEMA2, SMALL_CONFIG.encode(), "a/b")


@pytest.mark.parametrize("reference", ["quay.io/a/b", "quay.io/a/b:v1", "quay.io/a/b@sha256:" + "0" * 64])
def test_the_pull_spec_of_an_import_is_the_one_asked_for_with_the_digest(reference: str) -> None:
    image = image_from_import(SMALL_MANIFEST.encode(), SCHEMA2, SMALL_CONFIG.encode(), reference)
    assert image["dockerImageReference"] == f"quay.io/a/b@{sha(SMALL_MANIFEST)}"


# --- creating


def sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


SMALL_CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "created": "2019-05-06T07:08:09Z",
        "author": "mé",
        "docker_version": "18.09",
        "config": {"Env": ["A=1"], "Cmd": ["/run"], "ExposedPorts": {"8080/tcp": {}}, "Labels": {"l": "v"}},
        "container_config": {"Hostname": "h"},
        "rootfs": {"type": "layers", "diff_ids": []},
    },
    ensure_ascii=False,
)
SMALL_MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": SCHEMA2,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 1,
            "digest": sha(SMALL_CONFIG),
        },
        "layers": [
            {"mediaType": "application/x-tar", "size": 100, "digest": sha("base")},
            {"mediaType": "application/x-tar", "size": 23, "digest": sha("top")},
            {"mediaType": "application/x-tar", "size": 100, "digest": sha("base")},
        ],
    }
)
SMALL_LAYERS = [
    {"name": sha("base"), "size": 100, "mediaType": "application/x-tar"},
    {"name": sha("top"), "size": 23, "mediaType": "application/x-tar"},
    {"name": sha("base"), "size": 100, "mediaType": "application/x-tar"},
]
SMALL_METADATA = {
    "kind": "DockerImage",
    "apiVersion": "1.0",
    "Id": sha(SMALL_CONFIG),
    "Created": "2019-05-06T07:08:09Z",
    "ContainerConfig": {"Hostname": "h"},
    "DockerVersion": "18.09",
    "Author": "mé",
    "Config": {"Env": ["A=1"], "Cmd": ["/run"], "ExposedPorts": {"8080/tcp": {}}, "Labels": {"l": "v"}},
    "Architecture": "amd64",
    "Size": len(SMALL_CONFIG.encode()) + 123,
}
EMPTY_METADATA: dict[str, Any] = {
    "kind": "DockerImage",
    "apiVersion": "1.0",
    "Id": "",
    "Created": None,
    "ContainerConfig": {},
}


def image_of(**fields: Any) -> Image:
    return {"metadata": {"name": "some"}, "dockerImageReference": "quay.io/a/b:c", **fields}


def order_of(image: Image) -> str | None:
    order: str | None = image["metadata"].get("annotations", {}).get(LAYERS_ORDER)
    return order


def test_an_image_of_which_nothing_is_known_has_empty_metadata() -> None:
    assert complete_image({"kind": "Image", "apiVersion": "v1", "strange": 1} | image_of()) == image_of(
        dockerImageMetadata=EMPTY_METADATA, dockerImageMetadataVersion="1.0"
    )
    assert complete_image({})["metadata"] == {}


def test_layers_and_metadata_are_taken_from_manifest_and_config() -> None:
    image = complete_image(image_of(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG))
    assert image["dockerImageLayers"] == SMALL_LAYERS
    assert image["dockerImageMetadata"] == SMALL_METADATA
    assert image["dockerImageManifestMediaType"] == SCHEMA2
    assert image["dockerImageManifest"] == SMALL_MANIFEST
    assert image["dockerImageConfig"] == SMALL_CONFIG
    assert order_of(image) == "ascending"


@pytest.mark.parametrize(("stored", "kept"), [("true", False), ("false", True), ("True", True), ("", True)])
def test_manifest_and_config_are_dropped_only_if_the_registry_keeps_them(stored: str, kept: bool) -> None:
    sent = image_of(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    sent["metadata"]["annotations"] = {MANIFEST_BLOB_STORED: stored}
    image = complete_image(sent)
    assert ("dockerImageManifest" in image, "dockerImageConfig" in image) == (kept, kept)
    assert image["dockerImageMetadata"] == SMALL_METADATA


@pytest.mark.parametrize(
    ("order", "media_type", "reversed_", "shown"),
    [
        ("ascending", SCHEMA2, False, "ascending"),
        ("descending", SCHEMA2, True, "ascending"),
        ("descending", "", True, "ascending"),
        ("", SCHEMA2, False, "ascending"),
        (None, SCHEMA2, True, "ascending"),
        (None, OCI_MANIFEST, True, "ascending"),
        (None, SCHEMA1, False, "ascending"),
        (None, "application/vnd.docker.distribution.manifest.v1+prettyjws", False, "ascending"),
        (None, "", False, None),
    ],
)
def test_layers_come_out_base_first(order: str | None, media_type: str, reversed_: bool, shown: str | None) -> None:
    sent = image_of(dockerImageManifest="not read", dockerImageManifestMediaType=media_type)
    sent["dockerImageLayers"] = SMALL_LAYERS[:2]
    if order is not None:
        sent["metadata"]["annotations"] = {LAYERS_ORDER: order}
    before = copy.deepcopy(sent)
    image = complete_image(sent)
    assert image["dockerImageLayers"] == (SMALL_LAYERS[1::-1] if reversed_ else SMALL_LAYERS[:2])
    assert order_of(image) == shown
    assert sent == before


def test_without_a_manifest_layers_and_metadata_are_the_clients() -> None:
    sent = image_of(dockerImageLayers=SMALL_LAYERS[1::-1], dockerImageManifestMediaType=SCHEMA2)
    sent["dockerImageMetadata"] = {"kind": "x", "apiVersion": "y", "Id": "abc", "Size": 7, "Config": {"Env": ["X=y"]}}
    image = complete_image(sent)
    assert image["dockerImageLayers"] == SMALL_LAYERS[1::-1]
    assert order_of(image) is None
    assert image["dockerImageMetadata"] == {**EMPTY_METADATA, "Id": "abc", "Size": 7, "Config": {"Env": ["X=y"]}}


def test_layers_always_have_name_size_and_media_type() -> None:
    image = complete_image(image_of(dockerImageLayers=[{"name": "a", "size": 5, "extra": 1}, {"size": "5"}, None, 1]))
    assert image["dockerImageLayers"] == [
        {"name": "a", "size": 5, "mediaType": ""},
        *[{"name": "", "size": 0, "mediaType": ""}] * 3,
    ]


def test_what_the_client_knows_already_is_not_read_again() -> None:
    sent = image_of(
        dockerImageManifest=SMALL_MANIFEST,
        dockerImageConfig=SMALL_CONFIG,
        dockerImageManifestMediaType=SCHEMA1,
        dockerImageLayers=SMALL_LAYERS[:1],
        dockerImageMetadata={"Id": "mine", "Size": 5},
    )
    image = complete_image(sent)
    assert image["dockerImageMetadata"] == {**EMPTY_METADATA, "Id": "mine", "Size": 5}
    assert image["dockerImageLayers"] == SMALL_LAYERS[:1]
    assert image["dockerImageManifestMediaType"] == SCHEMA1


def test_layers_of_the_client_count_for_the_size() -> None:
    sent = image_of(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    sent["dockerImageLayers"] = [*SMALL_LAYERS[:1], {"name": sha(SMALL_CONFIG), "size": 1000}]
    image = complete_image(sent)
    assert image["dockerImageMetadata"]["Size"] == len(SMALL_CONFIG.encode()) + 100


def test_of_layers_with_one_name_the_first_counts_for_the_size() -> None:
    sent = image_of(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig="{}")
    sent["metadata"]["annotations"] = {LAYERS_ORDER: "ascending"}
    sent["dockerImageLayers"] = [{"name": "a", "size": 10}, {"name": "b", "size": 1}, {"name": "a", "size": 30}]
    assert complete_image(sent)["dockerImageMetadata"]["Size"] == 13


def test_without_a_config_there_are_layers_and_no_metadata() -> None:
    image = complete_image(image_of(dockerImageManifest=SMALL_MANIFEST))
    assert image["dockerImageLayers"] == SMALL_LAYERS
    assert image["dockerImageManifestMediaType"] == SCHEMA2
    assert image["dockerImageMetadata"] == EMPTY_METADATA


def test_a_manifest_that_does_not_say_what_it_is_is_what_the_client_says() -> None:
    document = json.loads(SMALL_MANIFEST)
    del document["mediaType"]
    for said, expected in (("", SCHEMA2), (OCI_MANIFEST, OCI_MANIFEST)):
        sent = image_of(dockerImageManifest=json.dumps(document), dockerImageManifestMediaType=said)
        assert complete_image(sent)["dockerImageManifestMediaType"] == expected


def test_a_manifest_list_fills_the_sub_manifests() -> None:
    entry = {"digest": sha("a"), "mediaType": SCHEMA2, "size": 9, "platform": {"architecture": "arm", "os": "linux"}}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [entry]})
    image = complete_image(image_of(dockerImageManifest=manifest), now="2020-01-02T03:04:05Z")
    assert image["dockerImageManifestMediaType"] == DOCKER_LIST
    assert image["dockerImageManifests"] == [
        {"digest": sha("a"), "mediaType": SCHEMA2, "manifestSize": 9, "architecture": "arm", "os": "linux"}
    ]
    assert image["dockerImageMetadata"] == {**EMPTY_METADATA, "Id": "some", "Created": "2020-01-02T03:04:05Z"}
    assert order_of(image) is None


def test_a_manifest_list_was_created_when_the_client_says_if_nobody_knows_the_time() -> None:
    sent = image_of(dockerImageManifest="{}", dockerImageManifestMediaType=OCI_INDEX)
    assert complete_image(sent)["dockerImageMetadata"]["Created"] is None
    sent["dockerImageMetadata"] = {"Created": "2020-01-02T03:04:05Z"}
    assert complete_image(sent)["dockerImageMetadata"]["Created"] == "2020-01-02T03:04:05Z"


def schema1(*layers: tuple[str, str]) -> str:
    return json.dumps(
        {
            "schemaVersion": 1,
            "name": "a/b",
            "tag": "c",
            "fsLayers": [{"blobSum": name} for name, _ in layers],
            "history": [{"v1Compatibility": document} for _, document in layers],
        }
    )


def test_schema_1_tells_layers_and_metadata_in_its_history() -> None:
    top = '{"id": "topid", "created": "2015-01-02T03:04:05.6Z", "author": "me", "size": 5, "config": {}}'
    manifest = schema1((sha("top"), top), (sha("mid"), "no json"), (sha("base"), '{"Size": 7}'), (sha("top"), top))
    image = complete_image(image_of(dockerImageManifest=manifest))
    media_type = "application/vnd.docker.container.image.rootfs.diff+x-gtar"
    assert image["dockerImageLayers"] == [
        {"name": name, "size": size, "mediaType": media_type}
        for name, size in [(sha("top"), 5), (sha("base"), 7), (sha("mid"), 0), (sha("top"), 5)]
    ]
    assert order_of(image) == "ascending"
    assert image["dockerImageManifestMediaType"] == SCHEMA1
    assert image["dockerImageMetadata"] == {
        **EMPTY_METADATA,
        "Id": "topid",
        "Created": "2015-01-02T03:04:05Z",
        "Author": "me",
        "Config": {},
        "Size": 12,
    }


def test_schema_1_with_a_history_of_another_length_is_not_read() -> None:
    document = json.loads(schema1((sha("top"), "{}"), (sha("base"), "{}")))
    document["history"].pop()
    image = complete_image(image_of(dockerImageManifest=json.dumps(document)))
    assert image == complete_image(image_of()) | {"dockerImageManifest": json.dumps(document)}


UNREADABLE = [
    "no",
    "[]",
    "1",
    "null",
    "{}",
    '{"schemaVersion": 3, "layers": [{"digest": "a"}]}',
    '{"schemaVersion": "2", "layers": [{"digest": "a"}]}',
    '{"schemaVersion": 2, "layers": {}}',
    '{"schemaVersion": 2, "layers": [{"digest": "a", "size": "1"}]}',
    '{"schemaVersion": 2, "layers": [{"digest": "a", "size": 1.5}]}',
    '{"schemaVersion": 2, "layers": [{"digest": "a", "size": true}]}',
    '{"schemaVersion": 2, "layers": [{"digest": "a", "size": 9223372036854775808}]}',
    '{"schemaVersion": 2, "config": []}',
    '{"schemaVersion": 2, "mediaType": 1}',
    "[" * 100_000,
    '{"layers":' * 100_000,
    '{"unknown":' + "[" * 100_000 + "]" * 100_000 + "}",
]


@pytest.mark.parametrize("manifest", UNREADABLE, ids=lambda text: text[:70])
def test_a_manifest_that_cannot_be_read_is_kept_and_fills_nothing(manifest: str) -> None:
    image = complete_image(image_of(dockerImageManifest=manifest, dockerImageConfig=SMALL_CONFIG))
    assert image == complete_image(image_of(dockerImageConfig=SMALL_CONFIG)) | {"dockerImageManifest": manifest}


def metadata_of_config(config: str) -> dict[str, Any]:
    image = complete_image(image_of(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=config))
    metadata: dict[str, Any] = image["dockerImageMetadata"]
    return metadata


@pytest.mark.parametrize(
    "config",
    [
        "no",
        "[]",
        '{"author": 1}',
        '{"architecture": []}',
        '{"config": []}',
        '{"config": {"Cmd": "/run"}}',
        '{"config": {"Cmd": [1]}}',
        '{"config": {"Env": {}}}',
        '{"config": {"Labels": {"a": 1}}}',
        '{"config": {"Labels": []}}',
        '{"config": {"Volumes": {"/v": ""}}}',
        '{"config": {"Volumes": []}}',
        '{"config": {"Tty": "yes"}}',
        '{"config": {"Memory": 1.0}}',
        '{"created": ""}',
        '{"created": 5}',
        '{"created": "2020-01-01"}',
        '{"created": "2020-13-01T00:00:00Z"}',
        '{"created": "2020-01-01T00:00:00"}',
        '{"created": "0001-01-01T00:00:00+02:00"}',
        '{"a":' * 100_000,
    ],
    ids=lambda text: text[:50],
)
def test_a_config_that_cannot_be_read_tells_nothing(config: str) -> None:
    assert metadata_of_config(config) == EMPTY_METADATA


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ('"2016-01-29T15:40:00.98+02:00"', "2016-01-29T13:40:00Z"),
        ('"2016-01-29T15:40:00.987654321Z"', "2016-01-29T15:40:00Z"),
        ('"2016-01-01T00:00:00+05:30"', "2015-12-31T18:30:00Z"),
        ('"0999-01-01T00:00:00Z"', "0999-01-01T00:00:00Z"),
        ('"0001-01-01T00:00:00Z"', None),
        ("null", None),
    ],
)
def test_times_are_in_utc_and_in_whole_seconds(created: str, expected: str | None) -> None:
    assert metadata_of_config(f'{{"created": {created}}}')["Created"] == expected


def test_keys_match_without_regard_to_case() -> None:
    config = '{"AUTHOR": "me", "Container_Config": {"hostName": "h"}, "CONFIG": {"env": ["A=1"], "CPUSHARES": 5}}'
    found = metadata_of_config(config)
    assert found["Author"] == "me"
    assert found["ContainerConfig"] == {"Hostname": "h"}
    assert found["Config"] == {"Env": ["A=1"], "CpuShares": 5}
    manifest = SMALL_MANIFEST.replace('"layers"', '"Layers"').replace('"digest"', '"Digest"')
    image = complete_image(image_of(dockerImageManifest=manifest, dockerImageConfig=SMALL_CONFIG))
    assert image["dockerImageLayers"] == SMALL_LAYERS
    assert image["dockerImageMetadata"] == SMALL_METADATA


def test_empty_values_of_a_config_are_left_out_and_nulls_too() -> None:
    config: dict[str, Any] = {
        "author": "",
        "comment": None,
        "id": "not this one",
        "size": 5,
        "config": {"Env": [], "Labels": None, "Tty": False, "Memory": 0, "User": "", "StopSignal": "TERM"},
        "container_config": {"Env": ["a", None], "Labels": {"a": None}, "Volumes": {"/v": None, "/w": {"x": 1}}},
    }
    found = metadata_of_config(json.dumps(config))
    assert found.pop("Size") == 123 + len(json.dumps(config))
    assert found == {
        **EMPTY_METADATA,
        "Id": sha(SMALL_CONFIG),
        "Config": {},
        "ContainerConfig": {"Env": ["a", ""], "Labels": {"a": ""}, "Volumes": {"/v": {}, "/w": {}}},
    }
    assert "Config" not in metadata_of_config('{"config": null}')


def test_metadata_of_the_client_is_all_or_nothing() -> None:
    image = complete_image(image_of(dockerImageMetadata={"Id": "abc", "Config": {"Env": "A=1"}}))
    assert image["dockerImageMetadata"] == EMPTY_METADATA


@pytest.mark.parametrize("size", [2**63 - 1, -(2**63 - 1)])
def test_sizes_that_do_not_fit_together_stay_on_the_wire(size: int) -> None:
    layers = [{"digest": sha(str(i)), "size": size} for i in range(3)]
    manifest = json.dumps({"schemaVersion": 2, "layers": layers})
    image = complete_image(image_of(dockerImageManifest=manifest, dockerImageConfig="{}"))
    assert image["dockerImageMetadata"]["Size"] == size
    assert orjson.loads(orjson.dumps(image)) == image


KEYS = [LAYERS_ORDER, MANIFEST_BLOB_STORED, "annotations", "name", "size", "mediaType", "digest", "Config", "Env"]
KEYS += ["ContainerConfig", "Created", "Size", "Labels", "Volumes", "schemaVersion", "layers", "config"]
KEYS += ["manifests", "platform", "fsLayers", "history", "v1Compatibility", "blobSum"]
VALUES = ["descending", "true", SCHEMA2, DOCKER_LIST, 1, 2, "2020-01-01T00:00:00Z"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS), inner | st.sampled_from(VALUES), max_size=5)
    ),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON.filter(lambda value: isinstance(value, dict))
DOCUMENT = st.text(max_size=5) | OBJECT.map(lambda value: orjson.dumps(value).decode())
IMAGE = st.fixed_dictionaries(
    {},
    optional={
        "metadata": OBJECT,
        "dockerImageReference": st.text(max_size=5),
        "dockerImageMetadata": OBJECT,
        "dockerImageMetadataVersion": st.text(max_size=5),
        "dockerImageLayers": st.lists(JSON, max_size=3),
        "dockerImageManifests": st.lists(JSON, max_size=3),
        "dockerImageManifest": DOCUMENT,
        "dockerImageConfig": DOCUMENT,
        "dockerImageManifestMediaType": st.sampled_from(["", SCHEMA1, SCHEMA2, OCI_MANIFEST, OCI_INDEX]),
        "signatures": st.lists(JSON, max_size=2),
    },
)


@given(IMAGE)
def test_any_image_is_completed_and_left_as_it_was(sent: Image) -> None:
    before = copy.deepcopy(sent)
    image = complete_image(sent)
    assert sent == before
    assert orjson.loads(orjson.dumps(image)) == image
    assert set(EMPTY_METADATA) <= set(image["dockerImageMetadata"])
    for layer in image.get("dockerImageLayers", []):
        assert [type(layer[key]) for key in ("name", "size", "mediaType")] == [str, int, str]
    validate_manifests(sent)


@given(IMAGE, IMAGE)
def test_any_update_leaves_both_images_as_they_were(old: Image, new: Image) -> None:
    stored = complete_image(old)
    before = copy.deepcopy((stored, new))
    updated = update_image(stored, new)
    assert (stored, new) == before
    assert updated["dockerImageMetadata"] == stored["dockerImageMetadata"]
    assert updated.get("dockerImageLayers") == stored.get("dockerImageLayers")


# --- updating


def stored(**fields: Any) -> Image:
    return complete_image(image_of(**fields))


def test_an_update_changes_labels_annotations_pull_spec_and_signatures() -> None:
    old = stored(dockerImageLayers=SMALL_LAYERS[:1], dockerImageMetadata={"Id": "original"})
    metadata = {"name": "some", "labels": {"k": "v"}, "annotations": {"a": "b"}}
    new = {"metadata": metadata, "dockerImageReference": "quay.io/new/place:1", "signatures": [{"type": "x"}]}
    assert update_image(old, new) == {**old, **new}


def test_an_update_cannot_change_the_content() -> None:
    old = stored(
        dockerImageLayers=SMALL_LAYERS[:1],
        dockerImageMetadata={"Id": "original"},
        dockerImageSignatures=["c2ln"],
        dockerImageManifestMediaType=SCHEMA2,
    )
    new = image_of(
        dockerImageLayers=SMALL_LAYERS,
        dockerImageMetadata={"Id": "changed"},
        dockerImageMetadataVersion="2.0",
        dockerImageSignatures=["b3RoZXI="],
        dockerImageManifestMediaType=SCHEMA1,
        dockerImageManifests=[{"digest": sha("a")}],
        dockerImageManifest=SMALL_MANIFEST,
        dockerImageConfig=SMALL_CONFIG,
    )
    assert update_image(old, new) == old
    assert update_image(old, {"metadata": old["metadata"], "dockerImageReference": "quay.io/a/b:c"}) == old


def named(name: str, **fields: Any) -> Image:
    return image_of(metadata={"name": name}, **fields)


def test_an_update_brings_the_manifest_and_the_config_that_the_name_stands_for() -> None:
    name = sha(SMALL_MANIFEST)
    old = complete_image(named(name))
    new = named(name, dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    updated = update_image(old, new)
    assert updated == complete_image(new)
    assert updated["dockerImageMetadata"] == SMALL_METADATA
    assert update_image(updated, old) == updated


def test_an_update_brings_the_config_to_a_manifest_that_is_there() -> None:
    name = sha(SMALL_MANIFEST)
    old = complete_image(named(name, dockerImageManifest=SMALL_MANIFEST))
    assert old["dockerImageMetadata"] == EMPTY_METADATA
    other = update_image(old, named(name, dockerImageConfig=SMALL_CONFIG + " "))
    assert other == old
    updated = update_image(old, named(name, dockerImageConfig=SMALL_CONFIG))
    assert updated["dockerImageMetadata"] == SMALL_METADATA
    assert updated["dockerImageLayers"] == SMALL_LAYERS


@pytest.mark.parametrize("name", ["some", sha("other"), sha(SMALL_MANIFEST).upper(), "sha256:short"])
def test_an_update_keeps_out_a_manifest_that_the_name_does_not_stand_for(name: str) -> None:
    old = complete_image(named(name))
    new = named(name, dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    assert update_image(old, new) == old


def test_names_may_be_digests_of_other_algorithms() -> None:
    name = f"sha512:{hashlib.sha512(SMALL_MANIFEST.encode()).hexdigest()}"
    updated = update_image(complete_image(named(name)), named(name, dockerImageManifest=SMALL_MANIFEST))
    assert updated["dockerImageManifest"] == SMALL_MANIFEST


def test_layers_keep_their_order_and_what_tells_of_it_through_an_update() -> None:
    old = stored(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    for said in ({}, {LAYERS_ORDER: "descending"}):
        updated = update_image(old, {**old, "metadata": {"name": "some", "annotations": said}})
        assert updated["dockerImageLayers"] == SMALL_LAYERS
        assert order_of(updated) == "ascending"


def test_an_update_may_say_that_the_registry_keeps_manifest_and_config() -> None:
    old = stored(dockerImageManifest=SMALL_MANIFEST, dockerImageConfig=SMALL_CONFIG)
    annotations = {**old["metadata"]["annotations"], MANIFEST_BLOB_STORED: "true"}
    updated = update_image(old, {**old, "metadata": {"name": "some", "annotations": annotations}})
    assert "dockerImageManifest" not in updated
    assert "dockerImageConfig" not in updated
    assert updated["dockerImageMetadata"] == SMALL_METADATA


# --- validating

PART = {"digest": sha("a"), "mediaType": SCHEMA2, "manifestSize": 1, "architecture": "amd64", "os": "linux"}


def test_sub_manifests_are_checked_field_by_field() -> None:
    broken = {"digest": "nope", "mediaType": "nope", "manifestSize": -1, "architecture": "", "os": ""}
    assert validate_manifests(image_of(dockerImageManifests=[PART, broken])) == [
        (
            "dockerImageManifests[1].digest",
            "FieldValueInvalid",
            "digest does not conform with OCI image specification",
            "nope",
        ),
        ("dockerImageManifests[1].mediaType", "FieldValueInvalid", "media type does not conform to RFC6838", "nope"),
        ("dockerImageManifests[1].architecture", "FieldValueRequired", "", ""),
        ("dockerImageManifests[1].os", "FieldValueRequired", "", ""),
        ("dockerImageManifests[1].size", "FieldValueInvalid", "manifest size cannot be negative", -1),
    ]


def test_sub_manifests_and_layers_exclude_each_other() -> None:
    layers = SMALL_LAYERS[:1]
    assert validate_manifests(image_of(dockerImageManifests=[PART], dockerImageLayers=layers)) == [
        (
            "dockerImageLayers",
            "FieldValueInvalid",
            "dockerImageLayers should not be set when dockerImageManifests is set",
            layers,
        )
    ]
    assert validate_manifests(image_of(dockerImageLayers=layers)) == []
    assert validate_manifests(image_of(dockerImageManifests=[PART])) == []


@pytest.mark.parametrize("part", [None, 1, {}, {"digest": 1}])
def test_a_sub_manifest_that_is_none_has_every_problem(part: Any) -> None:
    fields = {problem.field for problem in validate_manifests(image_of(dockerImageManifests=[part]))}
    assert fields == {f"dockerImageManifests[0].{name}" for name in ("digest", "mediaType", "architecture", "os")}
