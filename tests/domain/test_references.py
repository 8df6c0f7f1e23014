"""Names and pull specs: what parses, what is printed, and what each refusal says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from imagestream_es.domain.references import (
    ANNOTATIONS_LIMIT,
    DockerImageReference,
    InvalidName,
    InvalidReference,
    annotation_key_problems,
    annotations_size_problem,
    image_matches,
    image_name_problem,
    is_digest,
    label_value_problems,
    namespace_problem,
    path_segment_problem,
    qualified_name_problems,
    split_signature,
    split_stream_image,
    split_stream_tag,
    stream_name_problem,
    tag_name_problem,
    tag_text_problem,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data/registry/references.json").read_text())
HEX = "47463d94eb5c049b2d23b03a9530bf944f8f967a0fe79147dd6b9135bf7dd13d"
SHA = f"sha256:{HEX}"

parse = DockerImageReference.parse


def refusal(text: str) -> str:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["spec"])
def test_a_pull_spec_is_taken_apart_and_put_together_as_a_docker_client_does(case: dict[str, str]) -> None:
    found = parse(case["spec"])
    expected = (case["registry"], case["namespace"], case["name"], case["tag"], case["id"])
    assert (found.registry, found.namespace, found.name, found.tag, found.id) == expected
    assert found.exact() == case["spec"]
    assert found.with_defaults().exact() == case["defaulted"]
    assert found.api_host() == case["apiHost"]
    assert found.with_defaults().path() == case["repository"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHA, DockerImageReference(name="sha256", tag=HEX)),
        ("a__b/c--d---e.f_g:T-1_.x", DockerImageReference("", "a__b", "c--d---e.f_g", "T-1_.x")),
        (f"a/b:v1@{SHA}", DockerImageReference("", "a", "b", "v1", SHA)),
        ("REG.Example.com/a", DockerImageReference("REG.Example.com", "", "a")),
        ("localhost:5000/org", DockerImageReference("localhost:5000", "", "org")),
        ("bar:5000/library/baz", DockerImageReference("bar:5000", "library", "baz")),
        ("reg:5000", DockerImageReference(name="reg", tag="5000")),
        ("a@sha512:" + "0" * 128, DockerImageReference(name="a", id="sha512:" + "0" * 128)),
        ("a:" + "x" * 128, DockerImageReference(name="a", tag="x" * 128)),
    ],
)
def test_the_grammar_has_these_corners(text: str, expected: DockerImageReference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("host", ["quay.io", "quay.io:443", "localhost", "localhost:5000"])
def test_a_lone_host_is_a_registry_without_a_name(host: str) -> None:
    assert parse(host) == DockerImageReference(registry=host)
    assert parse(host).exact() == parse(host).repository() == host


@pytest.mark.parametrize(
    "text",
    [
        "a//b",
        "a/b/",
        "/a",
        ":tag",
        f"@{SHA}",
        "abc@badid",
        "mysql@sha256:bad",
        "a:",
        "a@",
        "a b",
        "a\n",
        "a-",
        "a._b",
        "a___b",
        "a:-x",
        "a:" + "x" * 129,
        "reg:port/a",
        "https://reg:5000/a/b",
        "registry.io/foo/bar/:Tag",
        "ä",
        "*",
        f"a@{SHA}:tag",
    ],
)
def test_other_text_is_no_reference(text: str) -> None:
    assert refusal(text) == "invalid reference format"


def test_an_empty_pull_spec_has_no_component() -> None:
    assert refusal("") == "repository name must have at least one component"


@pytest.mark.parametrize("text", ["A/B", "quay.io/Team/App:1", "Name", "reg:3000/x/imageStream:success"])
def test_capitals_in_the_repository_have_a_text_of_their_own(text: str) -> None:
    assert refusal(text) == "repository name must be lowercase"


def test_a_repository_has_at_most_255_characters_with_its_host() -> None:
    host = "bar:5000/"
    longest = host + "b" * (255 - len(host))
    assert parse(f"{longest}:tag").name == longest[len(host) :]
    assert refusal(f"{longest}b:tag") == "repository name must not be more than 255 characters"


def test_text_that_is_far_too_long_is_refused_unread() -> None:
    assert refusal("!" * 5000) == "repository name must not be more than 255 characters"


@given(st.text("aB1.-_/:", max_size=12))
def test_a_digest_changes_nothing_of_what_stands_before_it(place: str) -> None:
    try:
        expected = replace(parse(place), id=SHA)
    except InvalidReference:
        assert refusal(f"{place}@{SHA}")
    else:
        assert parse(f"{place}@{SHA}") == expected


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 32, f"{SHA}0", "sha512:" + "0" * 64])
def test_a_known_digest_has_its_full_length(digest: str) -> None:
    assert refusal(f"a/b@{digest}") == "invalid checksum digest length"


@pytest.mark.parametrize("digest", ["md5:" + "0" * 32, f"SHA256:{HEX}", f"tarsum.v1+sha256:{HEX}"])
def test_other_digests_are_not_supported(digest: str) -> None:
    assert refusal(f"a/b@{digest}") == "unsupported digest algorithm"


@pytest.mark.parametrize("unit", ["a", "a/", "a_", "a.", "a-", "A/", "a.b/", "-", ":", "x@a.", "a:5/", "\n"])
@pytest.mark.parametrize("length", [4000, 1_000_000])
@pytest.mark.parametrize("end", ["", "!"])
def test_hostile_text_is_refused_in_no_time(unit: str, length: int, end: str) -> None:
    text = unit * (length // len(unit)) + end
    start = time.perf_counter()
    for name in (parse, split_stream_tag):
        with pytest.raises(ValueError):  # noqa: PT011 (each has its own kind)
            name(text)
    problems = [
        stream_name_problem(text),
        namespace_problem(text),
        *qualified_name_problems(text),
        *label_value_problems(text),
    ]
    assert any(problems)
    assert not is_digest(text)
    assert time.perf_counter() - start < 2


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
HOST = st.from_regex(r"[a-z0-9]{1,5}(\.[A-Za-z0-9]{1,5}){1,2}(:[0-9]{1,5})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGEST = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
PATH = st.lists(COMPONENT, min_size=1, max_size=4).filter(lambda path: "." not in path[0] and path[0] != "localhost")


@given(host=st.just("") | HOST, path=PATH, tag=st.just("") | TAG, digest=st.just("") | DIGEST)
def test_every_part_comes_back_from_the_text(host: str, path: list[str], tag: str, digest: str) -> None:
    repository = "/".join([host, *path] if host else path)
    text = repository + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = parse(text)
    assert (found.registry, found.path(), found.tag, found.id) == (host, "/".join(path), tag, digest)
    assert found.repository() == repository
    assert found.most_specific().exact() == found.exact()
    assert parse(found.exact()) == found.most_specific()


def outcome(text: str) -> str:
    """The repository of a pull spec, or what is said against it."""
    try:
        return parse(text).repository()
    except InvalidReference as error:
        return str(error)


@given(st.text(max_size=40) | st.text(alphabet="aA0.:/@_-", max_size=40))
def test_any_text_parses_or_is_refused_with_a_known_text(text: str) -> None:
    said = outcome(text)
    assert (said and text.startswith(said)) or said in {
        "invalid reference format",
        "repository name must be lowercase",
        "repository name must have at least one component",
    }


def test_the_most_specific_form_prefers_a_digest() -> None:
    assert parse(f"a/b:v1@{SHA}").most_specific() == DockerImageReference("", "a", "b", "", SHA)
    assert parse("a/b:v1").most_specific() == DockerImageReference("", "a", "b", "v1")


def test_an_id_that_is_no_digest_is_written_as_a_tag() -> None:
    old_style = DockerImageReference("", "a", "b", id="3c87c572822935df60f0")
    assert old_style.exact() == "a/b:3c87c572822935df60f0"
    assert old_style.most_specific() == DockerImageReference("", "a", "b", tag="3c87c572822935df60f0")
    with_tag = DockerImageReference("", "a", "b", "v1", "3c87c572822935df60f0")
    assert with_tag.most_specific() == with_tag


def test_defaults_leave_a_host_without_a_name_alone_but_for_the_tag() -> None:
    assert parse("docker.io").with_defaults().namespace == ""


def test_a_digest_names_a_known_algorithm_in_full() -> None:
    assert is_digest(SHA)
    assert is_digest("sha384:" + "aF" * 48)
    for text in ("", "sha256", "sha256:", HEX, SHA[:-1], f"{SHA}0", SHA[:-1] + "g", f"{SHA}\n", f"sha1:{'0' * 40}"):
        assert not is_digest(text)


@pytest.mark.parametrize("wanted", [SHA, SHA[:19], "sha256:4", "sha", HEX, HEX[:12], "4"])
def test_an_image_is_meant_by_any_beginning_of_its_name_or_its_digits(wanted: str) -> None:
    assert image_matches(SHA, wanted)


@pytest.mark.parametrize("wanted", ["", "x", HEX[1:], f"{SHA}0", "SHA256", ":", SHA.upper()])
def test_an_image_is_not_meant_by_anything_else(wanted: str) -> None:
    assert not image_matches(SHA, wanted)


def test_a_name_that_is_no_digest_has_no_digits_to_match() -> None:
    assert image_matches("my:image", "my")
    assert not image_matches("my:image", "image")


def test_names_of_tags_images_and_signatures_have_two_parts() -> None:
    assert split_stream_tag("app:latest") == ("app", "latest")
    assert split_stream_image(f"app@{SHA}") == ("app", SHA)
    assert split_signature(f"{SHA}@one") == (SHA, "one")


@pytest.mark.parametrize("name", ["", "app", ":", "app:", ":latest", "a:b:c", f"app@{SHA}", "a@b:c", "a:b@c"])
def test_a_stream_tag_has_one_colon_between_two_parts(name: str) -> None:
    with pytest.raises(InvalidName):
        split_stream_tag(name)


@pytest.mark.parametrize("split", [split_stream_image, split_signature])
@pytest.mark.parametrize("name", ["", "app", "@", "app@", "@id", "a@b@c", "app:latest"])
def test_a_stream_image_and_a_signature_have_one_at_between_two_parts(split: type, name: str) -> None:
    with pytest.raises(InvalidName):
        split(name)


def test_no_name_leaves_its_segment_of_the_path() -> None:
    assert path_segment_problem(".") == "may not be '.'"
    assert path_segment_problem("..") == "may not be '..'"
    assert path_segment_problem("a/b") == "may not contain '/'"
    assert path_segment_problem("a%2fb") == "may not contain '%'"
    assert path_segment_problem("a\0b") == path_segment_problem("a\x7f") == "may not contain control characters"
    assert path_segment_problem("...") is None
    assert path_segment_problem(f"{SHA}@Sig_1") is None


@pytest.mark.parametrize("name", ["a", "ruby-sample", "a.b_c-d", "0", "l" * 64])
def test_these_are_names_of_streams(name: str) -> None:
    assert stream_name_problem(name, "ns") is None


@pytest.mark.parametrize(
    "name", ["", "Not_Lower", "a--b", "a__b", "a._b", "-a", "a-", "ruby-sample-", "a b", "a\n", "ä"]
)
def test_other_names_of_streams_do_not_match(name: str) -> None:
    expected = "may not contain control characters" if "\n" in name else 'must match "[a-z0-9]+(?:[._-][a-z0-9]+)*"'
    assert stream_name_problem(name, "ns") == expected


@pytest.mark.parametrize("name", [".", "..", "a/b", "a%b"])
def test_a_stream_lives_in_a_path_too(name: str) -> None:
    assert stream_name_problem(name) == path_segment_problem(name)


def test_namespace_and_stream_have_at_most_255_characters_together() -> None:
    assert stream_name_problem("l" * 251, "abc") is None
    assert stream_name_problem("l" * 252, "abc") == "'namespace/name' cannot be longer than 255 characters"


def test_an_image_that_is_not_named_by_a_digest_has_at_most_63_characters() -> None:
    assert image_name_problem("i" * 63) is None
    assert image_name_problem("i" * 64) == "must be no more than 63 characters"
    assert image_name_problem(SHA) is None
    assert image_name_problem("sha512:" + "0" * 128) is None
    assert image_name_problem("other+alg:" + "0" * 64) is None
    assert image_name_problem("sha256:" + "g" * 64) == "must be no more than 63 characters"
    assert image_name_problem("other+alg:" + "0" * 255) == "must be no more than 255 characters"
    assert image_name_problem("a/b") == "may not contain '/'"


def test_any_printable_text_of_moderate_length_is_a_tag_but_not_every_one_is_a_name() -> None:
    for text in ("latest", "a/b", "a:b", "é", "..", "t" * 255):
        assert tag_text_problem(text) is None
    for text in ("a\nb", "a\0b", "\u202e", "t" * 256):
        assert tag_text_problem(text) is not None
        assert tag_name_problem(text) is not None
    for text in ("a/b", "a:b", "a@b"):
        assert tag_name_problem(text) == "a tag may not contain ':', '@' or '/'"


def test_a_namespace_is_a_lowercase_label() -> None:
    assert namespace_problem("my-ns-1") is None
    assert namespace_problem("n" * 63) is None
    assert namespace_problem("n" * 64) == "must be no more than 63 characters"
    expected = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start"
        " and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
        " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )
    for name in ("", "My", "a_b", "a.b", "-a", "a-", "a\n", "..", "a/b"):
        assert namespace_problem(name) == expected


BAD_NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize("key", ["a", "app", "My_Key.1-x", "k" * 63, "example.com/name", "a/b", f"{'x' * 253}/n"])
def test_these_are_keys_of_labels(key: str) -> None:
    assert qualified_name_problems(key) == []


@pytest.mark.parametrize(
    ("key", "beginnings"),
    [
        ("", ["name part must be non-empty", f"name part {BAD_NAME}"]),
        ("k" * 64, ["name part must be no more than 63 characters"]),
        ("-a", [f"name part {BAD_NAME}"]),
        ("/a", ["prefix part must be non-empty"]),
        ("Ex/a", ["prefix part a lowercase RFC 1123 subdomain must consist of lower case"]),
        ("a..b/a", ["prefix part a lowercase RFC 1123 subdomain must consist of lower case"]),
        (f"{'x' * 254}/a", ["prefix part must be no more than 253 characters"]),
        ("a/b/c", [f"a qualified name {BAD_NAME} with an optional DNS subdomain prefix"]),
        ("a/", ["name part must be non-empty", f"name part {BAD_NAME}"]),
    ],
)
def test_other_keys_are_refused_in_the_words_of_kubernetes(key: str, beginnings: list[str]) -> None:
    problems = qualified_name_problems(key)
    assert len(problems) == len(beginnings)
    for problem, beginning in zip(problems, beginnings, strict=True):
        assert problem.startswith(beginning)


def test_the_key_of_an_annotation_may_have_a_prefix_in_capitals() -> None:
    assert annotation_key_problems("Example.COM/Name") == []
    assert annotation_key_problems("a b") == [f"name part {BAD_NAME}"]


def test_the_value_of_a_label_is_short_and_plain() -> None:
    assert label_value_problems("") == label_value_problems("My_value.1") == label_value_problems("v" * 63) == []
    assert label_value_problems("v" * 64) == ["must be no more than 63 characters"]
    [problem] = label_value_problems("a b")
    assert problem == (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and"
        " must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345',"
        " regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    )
    assert len(label_value_problems("-" * 64)) == 2


def test_annotations_have_a_limit_in_bytes_over_all() -> None:
    assert annotations_size_problem({}) is None
    assert annotations_size_problem({"k": "v" * (ANNOTATIONS_LIMIT - 1)}) is None
    too_much = "may not be more than 262144 bytes"
    assert annotations_size_problem({"k": "v" * ANNOTATIONS_LIMIT}) == too_much
    assert (
        annotations_size_problem({"a": "v" * (ANNOTATIONS_LIMIT // 2), "b": "v" * (ANNOTATIONS_LIMIT // 2)}) == too_much
    )
    assert annotations_size_problem({"k": "ä" * (ANNOTATIONS_LIMIT // 2)}) == too_much
