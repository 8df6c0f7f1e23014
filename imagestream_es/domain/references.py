"""Names: pull specs, and what streams, images, namespaces, labels and annotations may be called.

The whole grammar stands in one place, because a name is where everything a client says enters the domain:
what passes here is safe in a path, in a pull spec and in an index. All of it takes linear time and bounded
memory, whatever the text.

Questions about a single name answer with the text of the first problem, or None; questions about labels and
annotations, where Kubernetes may have several complaints at once, answer with a list. The texts are those
that Kubernetes servers use, without the "Invalid value" around them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

DOCKER_HUB = "docker.io"
"""The registry that a pull spec without one means."""

_DOCKER_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_API_HOST = "registry-1.docker.io"

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}

_LONGEST_NAME = 255
# A valid tag and a valid digest are short, so nothing above this parses; refusing it unread bounds the work.
_LONGEST_PULL_SPEC = 4096

_INVALID_FORMAT = "invalid reference format"
_NAME_EMPTY = "repository name must have at least one component"
_NAME_TOO_LONG = f"repository name must not be more than {_LONGEST_NAME} characters"
_NAME_NOT_LOWERCASE = "repository name must be lowercase"
_DIGEST_LENGTH = "invalid checksum digest length"
_DIGEST_ALGORITHM = "unsupported digest algorithm"

# No two neighbouring parts of these expressions can begin with the same character, and runs are possessive:
# that is what keeps matching linear.
_COMPONENT = r"[a-z0-9]++(?:(?:\.|__?|-++)[a-z0-9]++)*"
_HOST_LABEL = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*"
_HOST = rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*(?::[0-9]++)?"
_REPOSITORY = rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}+"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*+(?:[-_+.][A-Za-z][A-Za-z0-9]*+)*:[0-9A-Fa-f]{32,}+"
_match_pull_spec = re.compile(rf"({_REPOSITORY})(?::({_TAG}))?(?:@({_DIGEST}))?").fullmatch
_match_digest = re.compile(_DIGEST).fullmatch
_match_known_digest = re.compile(
    "|".join(f"{algorithm}:[0-9A-Fa-f]{{{length}}}" for algorithm, length in _HEX_DIGITS.items())
).fullmatch


class InvalidReference(ValueError):
    """A pull spec that does not parse; the message is the reason, as OpenShift words it."""


class InvalidName(ValueError):
    """A name that is not made of the two parts that its resource wants."""


class DockerImageReference(Struct, frozen=True):
    """Where an image can be pulled: `[registry/][namespace/]name[:tag][@id]`; absent parts are empty.

    The namespace is the first component of the path and the name all the rest, so a name may hold slashes.
    The name is empty for a bare registry host, and only then.
    """

    registry: str = ""
    namespace: str = ""
    name: str = ""
    tag: str = ""
    id: str = ""

    @classmethod
    def parse(cls, text: str) -> DockerImageReference:
        """Take a pull spec apart; `InvalidReference` if it is none."""
        place, _, digest = text.partition("@")
        if not is_digest(digest):
            return cls._parse(text)
        try:
            found = _parse_place(place)
        except InvalidReference:
            return cls._parse(text)  # which says what is wrong with all of it
        return cls(found.registry, found.namespace, found.name, found.tag, digest)

    @classmethod
    def _parse(cls, text: str) -> DockerImageReference:
        if len(text) > _LONGEST_PULL_SPEC:
            raise InvalidReference(_NAME_TOO_LONG)
        match = _match_pull_spec(text)
        if match is None:
            raise InvalidReference(_why_not(text))
        repository, tag, digest = match.groups("")
        if len(repository) > _LONGEST_NAME:
            raise InvalidReference(_NAME_TOO_LONG)
        if digest:
            _check_digest(digest)
        first, slash, path = repository.partition("/")
        is_host = "." in first or ":" in first or first == "localhost"
        if not slash:
            if not is_host:
                return cls("", "", first, tag, digest)
            # what reads as the tag of a lone host can only be its port
            return cls(f"{first}:{tag}" if tag else first, id=digest)
        registry = first if is_host else ""
        namespace, slash, name = (path if is_host else repository).partition("/")
        if not slash:
            namespace, name = "", namespace
        return cls(registry, namespace, name, tag, digest)

    def exact(self) -> str:
        """The pull spec with what is set and nothing more; an id wins over a tag."""
        if not self.id:
            return f"{self.repository()}:{self.tag}" if self.tag else self.repository()
        # an id that is no digest is one of the first registries, which knew it as a tag
        return f"{self.repository()}{'@' if is_digest(self.id) else ':'}{self.id}"

    def most_specific(self) -> DockerImageReference:
        """Without the tag if there is a digest; any other id becomes the tag if there is none."""
        if not self.id or (self.tag and not is_digest(self.id)):
            return self
        return replace(self, tag="") if is_digest(self.id) else replace(self, tag=self.id, id="")

    def with_defaults(self) -> DockerImageReference:
        """With what a docker client adds: docker.io, its namespace `library`, and the tag `latest`."""
        registry = self.registry or DOCKER_HUB
        namespace = self.namespace or ("library" if self.name and registry in _DOCKER_HUB_HOSTS else "")
        return replace(self, registry=registry, namespace=namespace, tag=self.tag or "latest")

    def repository(self) -> str:
        """`registry/namespace/name` of what is set: the pull spec without tag and id."""
        path = self.path()
        return f"{self.registry}/{path}" if self.registry and path else self.registry or path

    def path(self) -> str:
        """`namespace/name`: the repository as its registry knows it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def api_host(self) -> str:
        """`host[:port]` that answers the registry's API, which differs from the registry for docker.io."""
        return _DOCKER_HUB_API_HOST if not self.registry or self.registry in _DOCKER_HUB_HOSTS else self.registry


@lru_cache(maxsize=4096)
def _parse_place(text: str) -> DockerImageReference:
    """A pull spec without digest: new images come where others have come before."""
    return DockerImageReference.parse(text)


def stream_repository(registry: str, namespace: str, name: str) -> str:
    """The pull spec of a stream's own repository in the internal registry, "" without one."""
    return f"{registry}/{namespace}/{name}" if registry else ""


def stream_behind(pull_spec: str, registries: Collection[str]) -> tuple[str, str] | None:
    """The stream, as namespace and name, whose repository in one of these registries a pull spec names.

    None for any other pull spec, and for what is none.
    """
    try:
        reference = DockerImageReference.parse(pull_spec)
    except InvalidReference:
        return None
    if not reference.namespace or not is_one_of(reference.registry, registries):
        return None
    return reference.namespace, reference.name


def is_one_of(host: str, hosts: Iterable[str]) -> bool:
    """Whether a host, with its port if it has one, is one of these in whatever spelling."""
    return _place_of_host(host) in map(_place_of_host, hosts)


def _place_of_host(host: str) -> tuple[str, int]:
    """Name and port of a host, so that all its spellings are one; the ports that clients add themselves are 0."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not port.isdigit():
        return host.lower(), 0
    return name, 0 if int(port) in (80, 443) else int(port)


def _check_digest(digest: str) -> None:
    algorithm, _, digits = digest.partition(":")
    wanted = _HEX_DIGITS.get(algorithm)
    if wanted is None:
        raise InvalidReference(_DIGEST_ALGORITHM)
    if len(digits) != wanted:
        raise InvalidReference(_DIGEST_LENGTH)


def _why_not(text: str) -> str:
    if not text:
        return _NAME_EMPTY
    return _NAME_NOT_LOWERCASE if _match_pull_spec(text.lower()) else _INVALID_FORMAT


def is_digest(text: str) -> bool:
    """Whether this is a digest of a known algorithm (sha256, sha384, sha512) in its full length."""
    return _match_known_digest(text) is not None


def image_matches(image_name: str, wanted: str) -> bool:
    """Whether `wanted`, as a person types it, means this image: its name or a beginning of it.

    A digest may be given without its algorithm. An empty `wanted` means no image.
    """
    if not wanted:
        return False
    digits = image_name.partition(":")[2]
    return image_name.startswith(wanted) or (digits.startswith(wanted) and is_digest(image_name))


def split_stream_tag(name: str) -> tuple[str, str]:
    """Stream and tag of `STREAM:TAG`; `InvalidName` unless one colon, and no `@`, stands between both."""
    if "@" in name:
        raise InvalidName(f'"{name}" is the name of an image in a stream, not of a tag')
    return _split(name, ":")


def split_stream_image(name: str) -> tuple[str, str]:
    """Stream and image of `STREAM@IMAGE`; `InvalidName` unless one `@` stands between both."""
    return _split(name, "@")


def split_signature(name: str) -> tuple[str, str]:
    """Image and signature of `IMAGE@SIGNATURE`; `InvalidName` unless one `@` stands between both."""
    return _split(name, "@")


def _split(name: str, separator: str) -> tuple[str, str]:
    first, found, second = name.partition(separator)
    if not found or separator in second:
        raise InvalidName(f'expected exactly one {separator} in "{name}"')
    if not first or not second:
        raise InvalidName(f'there must be a name on both sides of {separator} in "{name}"')
    return first, second


_match_stream_name = re.compile(r"[a-z0-9]++(?:[._-][a-z0-9]++)*").fullmatch
_search_control_character = re.compile(r"[\x00-\x1f\x7f]").search


def path_segment_problem(name: str) -> str | None:
    """What keeps any name from being one segment of a path."""
    if name in {".", ".."}:
        return f"may not be '{name}'"
    for character in "/%":
        if character in name:
            return f"may not contain '{character}'"
    # Kubernetes lets them through; logs, terminals and PostgreSQL do not bear them
    return "may not contain control characters" if _search_control_character(name) else None


def stream_name_problem(name: str, namespace: str = "") -> str | None:
    """What is wrong with the name, or generateName, of a stream that lives in `namespace`."""
    problem = path_segment_problem(name)
    if problem:
        return problem
    if len(namespace) + 1 + len(name) > _LONGEST_NAME:
        return f"'namespace/name' cannot be longer than {_LONGEST_NAME} characters"
    return None if _match_stream_name(name) else 'must match "[a-z0-9]+(?:[._-][a-z0-9]+)*"'


def image_name_problem(name: str) -> str | None:
    """What is wrong with the name of an image; the digest of any algorithm may be longer than other names."""
    if is_digest(name):
        return None
    problem = path_segment_problem(name)
    if problem:
        return problem
    longest = _LONGEST_NAME if _match_digest(name) else 63
    return _at_most(longest) if len(name) > longest else None


_LABEL_CHARACTERS = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_CHARACTERS = rf"{_LABEL_CHARACTERS}(\.{_LABEL_CHARACTERS})*"
_QUALIFIED_CHARACTERS = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE_CHARACTERS = f"({_QUALIFIED_CHARACTERS})?"
_match_label = re.compile(_LABEL_CHARACTERS).fullmatch
_match_qualified = re.compile(_QUALIFIED_CHARACTERS).fullmatch

_ENDS = "and must start and end with an alphanumeric character"
_BAD_LABEL = (
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ENDS}"
    f" (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_CHARACTERS}')"
)
_BAD_SUBDOMAIN = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ENDS}"
    f" (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_CHARACTERS}')"
)
_BAD_QUALIFIED = (
    f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    f" (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED_CHARACTERS}')"
)
_BAD_LABEL_VALUE = (
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    " (e.g. 'MyValue',  or 'my_value',  or '12345',"
    f" regex used for validation is '{_LABEL_VALUE_CHARACTERS}')"
)

_LONGEST_LABEL = 63
_LONGEST_SUBDOMAIN = 253
_LONGEST_QUALIFIED = _LONGEST_SUBDOMAIN + 1 + _LONGEST_LABEL

ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes that the keys and values of one object's annotations may take together."""


def _at_most(length: int) -> str:
    return f"must be no more than {length} characters"


def namespace_problem(name: str) -> str | None:
    """What keeps the name from being a lowercase RFC 1123 label, as a namespace must be."""
    if len(name) > 63:
        return _at_most(63)
    return None if _match_label(name) else _BAD_LABEL


def qualified_name_problems(name: str) -> list[str]:
    """What is wrong with a label's key: `[SUBDOMAIN/]NAME`."""
    return [] if len(name) <= _LONGEST_QUALIFIED and _is_qualified(name) else _qualified_name_problems(name)


@lru_cache(maxsize=1024)  # few keys stand on nearly all objects
def _is_qualified(name: str) -> bool:
    return not _qualified_name_problems(name)


def _qualified_name_problems(name: str) -> list[str]:
    prefix, slash, last = name.partition("/")
    if "/" in last:
        return [
            f"a qualified name {_BAD_QUALIFIED} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')"
        ]
    problems = [f"prefix part {problem}" for problem in _subdomain_problems(prefix)] if slash else []
    last = last if slash else prefix
    if not last:
        problems.append("name part must be non-empty")
    elif len(last) > _LONGEST_LABEL:
        problems.append(f"name part {_at_most(_LONGEST_LABEL)}")
    if not _match_qualified(last):
        problems.append(f"name part {_BAD_QUALIFIED}")
    return problems


def _subdomain_problems(name: str) -> list[str]:
    if not name:
        return ["must be non-empty"]
    problems = [_at_most(_LONGEST_SUBDOMAIN)] if len(name) > _LONGEST_SUBDOMAIN else []
    if not all(map(_match_label, name.split("."))):
        problems.append(_BAD_SUBDOMAIN)
    return problems


def label_value_problems(value: str) -> list[str]:
    """What is wrong with a label's value."""
    problems = [_at_most(63)] if len(value) > 63 else []
    if value and not _match_qualified(value):
        problems.append(_BAD_LABEL_VALUE)
    return problems


def annotation_key_problems(key: str) -> list[str]:
    """What is wrong with an annotation's key: the rules of a label's key, whatever the case."""
    return qualified_name_problems(key.lower())


def annotations_size_problem(annotations: Mapping[str, str]) -> str | None:
    """Whether all annotations of one object take more than `ANNOTATIONS_LIMIT`, and the text for it."""
    text = "".join([*annotations, *annotations.values()])
    is_large = 4 * len(text) > ANNOTATIONS_LIMIT and len(text.encode()) > ANNOTATIONS_LIMIT
    return f"may not be more than {ANNOTATIONS_LIMIT} bytes" if is_large else None


def tag_text_problem(text: str) -> str | None:
    """What keeps a text from being a tag at all: histories are found by it."""
    if len(text) > _LONGEST_NAME:
        return _at_most(_LONGEST_NAME)
    return None if text.isprintable() else "a tag may not contain control characters"


def tag_name_problem(name: str) -> str | None:
    """Why `name` cannot be a tag that is written by its own name, or None."""
    if ":" in name or "@" in name or "/" in name:
        return "a tag may not contain ':', '@' or '/'"
    return tag_text_problem(name)
