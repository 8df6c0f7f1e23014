"""imagetags: one tag of a stream with spec and whole history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.call import Answer, Call, expected
from api.errors import success
from api.resource import Resource
from api.resources.image_stream_tags import check_names, names, object_names, tag_view
from api.resources.image_stream_tags import told_by as tag_told_by
from api.resources.image_streams import owning
from api.resources.options import delete_expected
from api.schemas.meta import problems_of, stream_meta
from api.schemas.tags import ImageTagSchema, SentTag, image_tag_json
from imagestream_es.application.commands import Expected, TagWrite
from imagestream_es.application.freshness import IMAGES, Subject
from imagestream_es.application.queries import Listed, TagView
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.image_stream import NO_TAG
from imagestream_es.domain.validation import tag_problems

NAME = "imagetags"
KIND = "ImageTag"
SCHEMA = ImageTagSchema()


def shown(call: Call, view: TagView, *, listed: bool = False) -> dict[str, Any]:
    """A tag in wire shape."""
    return image_tag_json(view, call.door.metadata_version, listed=listed)


def _found(call: Call) -> TagView:
    view = tag_view(call, NAME)
    if view.tag not in view.stream.tags:
        raise NotFound(NAME, call.name)
    return view


def get(call: Call) -> Answer:
    """One tag that has a spec or a history."""
    return Answer(shown(call, _found(call)))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """Every tag that has a spec or a history, without images."""
    listed = call.services.queries.image_streams(call.namespace or None, at)
    items = [
        shown(call, TagView(view.stream, tag, view.items.get(tag, ()), None), listed=True)
        for view in listed.found
        for tag in sorted(view.stream.tags)
    ]
    return Listed(items, listed.position)


def told_by(call: Call) -> Sequence[Subject]:
    """As of an image stream tag; but the image need not be there, and shows itself when it comes."""
    return (*tag_told_by(call), IMAGES) if call.name else tag_told_by(call)


def create(call: Call, body: dict[str, Any]) -> Answer:
    """A new spec tag; its stream is made if there is none."""
    sent: SentTag = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    if not sent.meta.name:
        raise Invalid(KIND, "", [FieldProblem(Problem.REQUIRED, "metadata.name", "name is required")])
    stream, tag = object_names(sent.meta.name, KIND)
    check_names(call, stream, tag)
    _check(sent, tag, new=True)
    view = call.services.commands.create_tag(
        owning(call),
        call.namespace,
        stream,
        tag,
        _write(sent, tag),
        NAME,
        Expected(image=call.guard),
        history=True,
        dry=call.dry,
    )
    return Answer(shown(call, view), 201)


def _check(sent: SentTag, tag: str, *, new: bool) -> None:
    problems = problems_of(sent.meta)
    if sent.tag is not None:
        if sent.tag.name not in ("", tag):
            problems.append(FieldProblem(Problem.INVALID, "spec.name", "must match image tag name", sent.tag.name))
        problems += tag_problems(sent.tag, "spec")
    elif new:
        problems.append(FieldProblem(Problem.REQUIRED, "spec", "spec is a required field during creation"))
    if problems:
        raise Invalid(KIND, sent.meta.name, problems)


def _write(sent: SentTag, tag: str) -> TagWrite:
    if sent.tag is None:
        return TagWrite(tag=None, remove=True)
    return TagWrite(tag=sent.tag.named(tag))


def update(call: Call, body: dict[str, Any]) -> Answer:
    """A spec tag, new or not; without a spec, the spec tag is removed and its history stays."""
    stream, tag = names(call, "ImageTags")
    sent: SentTag = call.load(SCHEMA, body)
    call.check_meta(sent.meta, name=call.name)
    check_names(call, stream, tag)
    _check(sent, tag, new=False)
    _check_unchanged(call, sent, stream, tag)
    view, new = call.services.commands.put_tag(
        owning(call),
        call.namespace,
        stream,
        tag,
        _write(sent, tag),
        NAME,
        expected(call, sent.meta),
        history=True,
        dry=call.dry,
    )
    return Answer(shown(call, view), 201 if new and sent.tag is not None else 200)


def _check_unchanged(call: Call, sent: SentTag, stream: str, tag: str) -> None:
    """Status and metadata must be sent back as they are."""
    if call.done is not None:
        return
    view = call.services.queries.tag(call.namespace, stream, tag, history=True)
    found = view is not None and tag in view.stream.tags
    if not found and sent.tag is None:
        raise NotFound(NAME, call.name)
    if call.unconditional:
        return  # the status came from us, and a push may have moved it since
    conditions = view.stream.tags.get(tag, NO_TAG).conditions if view is not None else ()
    items = tuple(view.items) if view is not None else ()
    problems = []
    if (sent.history or ((), ())) != (items, conditions):
        detail = "may not update fields other than spec"
        problems.append(FieldProblem(Problem.INVALID, "status", detail, f"{stream}:{tag}"))
    meta = stream_meta(view.stream) if view is not None else {}
    if (sent.meta.labels and sent.meta.labels != meta.get("labels", {})) or (
        sent.meta.annotations and sent.meta.annotations != meta.get("annotations", {})
    ):
        detail = "may not update fields other than spec"
        problems.append(FieldProblem(Problem.INVALID, "metadata", detail, f"{stream}:{tag}"))
    if problems:
        raise Invalid(KIND, call.name, problems)


def base(call: Call) -> dict[str, Any]:
    """The object that a patch is applied to: the tag without its image."""
    found = shown(call, _found(call), listed=True)
    found.pop("image")
    return found


def delete(call: Call) -> Answer:
    """A tag, with its history."""
    stream, tag = names(call, "ImageTags")
    uid = call.services.commands.delete_tag(
        call.caller, call.namespace, stream, tag, NAME, delete_expected(call), dry=call.dry
    )
    return Answer(success(call.name, call.door.group, NAME, uid))


IMAGE_TAGS = Resource(
    name=NAME,
    kind=KIND,
    short_names=("itag",),
    legacy=False,
    as_of=True,
    get=get,
    find=find,
    told_by=told_by,
    schema=SCHEMA,
    create=create,
    update=update,
    base=base,
    guarded=True,
    delete=delete,
)
