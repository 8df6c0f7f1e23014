"""Reads what a registry posts when something happens in it, and tells which of it an image stream can use.

Only manifests that were pushed under a tag count. Whatever else comes has a reason why not: a registry sends
an answer that is no success again and again, with everything later waiting behind it, so nothing that it may
send is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Raw, Struct

from imagestream_es.domain.references import is_digest, namespace_problem, stream_name_problem
from imagestream_es.registry.manifests import IMAGE_TYPES, LIST_TYPES, SCHEMA1, SIGNED_SCHEMA1

MANY = 10_000
"""Notifications in one body. Registries send one, or a few."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_is_id = re.compile(r"[\x21-\x7e]{1,255}").fullmatch
_is_tag = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}").fullmatch
_match_time = re.compile(r"([0-9T:-]{19})(?:\.([0-9]{1,9})[0-9]*)?(Z|[+-][0-9]{2}:[0-9]{2})").fullmatch


class Push(Struct, frozen=True, kw_only=True):
    """A manifest was put under a tag of a repository NAMESPACE/NAME.

    `time` is the registry's, in nanoseconds since the epoch; `actor` is who pushed, as the registry calls them, and
    `principal` their id in the log, if the notification was kept with one in place of the name.
    """

    id: str
    repository: str
    tag: str
    digest: str
    time: int
    actor: str = ""
    principal: str = ""

    @property
    def namespace(self) -> str:
        """The first part of the repository."""
        return self.repository.partition("/")[0]

    @property
    def name(self) -> str:
        """The second part of the repository: the stream's name."""
        return self.repository.partition("/")[2]


class Notification(Struct, frozen=True, kw_only=True):
    """One event as it came (`raw`), and what it is: a push, or the reason why it is of no use.

    `instance` names the registry process that sent it.
    """

    raw: bytes
    push: Push | None = None
    reason: str = ""
    instance: str = ""


class _Envelope(Struct):
    events: list[Raw]


class _Target(Struct, frozen=True):
    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str = ""
    repository: str = ""
    tag: str = ""


class _Actor(Struct, frozen=True):
    name: str = ""


class _Source(Struct, frozen=True):
    instance: str = msgspec.field(default="", name="instanceID")


class _Event(Struct):
    id: str = ""
    timestamp: str = ""
    action: str = ""
    target: _Target = _Target()
    actor: _Actor | None = None
    source: _Source | None = None
    principal: str = ""


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_notifications(body: bytes, now: int) -> Sequence[Notification]:
    """The notifications in a request's body, in order; a body that is none is one of no use.

    `now`, in nanoseconds since the epoch, is the time of those that do not tell theirs.
    """
    try:
        events = _decode_envelope(body).events
    except _UNREADABLE:
        return [Notification(raw=body, reason="unreadable")]
    if len(events) > MANY:
        return [Notification(raw=body, reason="too many")]
    return [read_notification(bytes(event), now) for event in events]


def read_notification(raw: bytes, now: int) -> Notification:
    """One notification."""
    try:
        event = _decode_event(raw)
    except _UNREADABLE:
        return Notification(raw=raw, reason="unreadable")
    instance = event.source.instance if event.source else ""
    reason = _reason(event)
    if reason:
        return Notification(raw=raw, reason=reason, instance=instance)
    push = Push(
        id=event.id,
        repository=event.target.repository,
        tag=event.target.tag,
        digest=event.target.digest,
        time=_nanoseconds(event.timestamp, now),
        actor=event.actor.name if event.actor else "",
        principal=event.principal,
    )
    return Notification(raw=raw, push=push, instance=instance)


def without_names(raw: bytes, principal: str) -> bytes:
    """A notification of a push with what is read of it alone, and with the id of who pushed in place of the name."""
    event = _decode_event(raw)
    event.actor, event.principal = None, principal
    return msgspec.json.encode(event)


def repository_problem(repository: str) -> str:
    """Why a repository cannot be that of a stream, "" if it can: it must be NAMESPACE/NAME."""
    namespace, _, name = repository.partition("/")
    return "repository name" if namespace_problem(namespace) or stream_name_problem(name, namespace) else ""


def media_type_problem(media_type: str) -> str:
    """Why something of this type is no image, "" if it may be one."""
    if media_type in IMAGE_TYPES | LIST_TYPES:
        return ""
    return "schema 1" if media_type in (SCHEMA1, SIGNED_SCHEMA1) else "no manifest"


def _reason(event: _Event) -> str:
    target = event.target
    if event.action != "push":
        return event.action if event.action in ("pull", "mount", "delete") else "unknown action"
    problem = media_type_problem(target.media_type)
    if problem:
        return problem
    if not target.tag:
        return "untagged"
    if not _is_id(event.id):
        return "no id"
    if not _is_tag(target.tag):
        return "bad tag"
    if not (is_digest(target.digest) and target.digest.startswith("sha256:")):  # images are named by no other
        return "bad digest"
    return repository_problem(target.repository)


def _nanoseconds(text: str, now: int) -> int:
    """RFC 3339 as nanoseconds since the epoch; `now` for what is no such time."""
    match = _match_time(text)
    if match is None:
        return now
    try:
        whole = datetime.fromisoformat(match[1] + match[3]) - _EPOCH
    except (ValueError, OverflowError):
        return now
    return whole // timedelta(seconds=1) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
