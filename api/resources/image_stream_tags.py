"""imagestreamtags: one tag of a stream with its newest image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.call import Answer, Call, expected
from api.errors import Refusal, success
from api.resource import Resource
from api.resources.image_streams import check_new_name, owning
from api.resources.image_streams import told_by as streams_of
from api.resources.options import delete_expected
from api.schemas.meta import problems_of
from api.schemas.tags import ImageStreamTagSchema, SentTag, image_stream_tag_json, listed_tag_json
from imagestream_es.application.commands import Expected, TagWrite
from imagestream_es.application.freshness import KNOWN_IMAGES, Subject
from imagestream_es.application.queries import Listed, TagView
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.image_stream import KIND as STREAM_KIND
from imagestream_es.domain.image_stream import NO_TAG
from imagestream_es.domain.references import split_stream_tag, tag_name_problem
from imagestream_es.domain.tags import TagReference
from imagestream_es.domain.validation import tag_problems

NAME = "imagestreamtags"
KIND = "ImageStreamTag"
SCHEMA = ImageStreamTagSchema()


def names(call: Call, kind: str = "ImageStreamTags", form: str = "<name>:<tag>") -> tuple[str, str]:
    """Stream and tag of the URL. Raises Refusal."""
    try:
        return split_stream_tag(call.name)
    except ValueError:
        raise Refusal(400, f"{kind} must be retrieved with {form}") from None


def tag_view(call: Call, resource: str) -> TagView:
    """The tag that the URL names. Raises NotFound without its stream."""
    stream, tag = names(call, "ImageTags" if resource == "imagetags" else "ImageStreamTags")
    view = call.services.queries.tag(call.namespace, stream, tag, history=resource == "imagetags", at=call.at)
    if view is None:
        raise NotFound(resource, stream)
    return view


def shown(call: Call, view: TagView) -> dict[str, Any]:
    """A tag in wire shape."""
    return image_stream_tag_json(view, call.registry, call.door.metadata_version)


def get(call: Call) -> Answer:
    """One tag that has an image."""
    view = tag_view(call, NAME)
    head = view.stream.tags.get(view.tag, NO_TAG).head
    if head is None or not head.image:
        raise NotFound(NAME, call.name)
    if view.image is None:
        raise NotFound(NAME, head.image)
    return Answer(shown(call, view))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """Every tag that has an image."""
    listed = call.services.queries.streams_with_heads(call.namespace or None, at)
    items = [
        listed_tag_json(stream, name, call.registry)
        for stream in listed.found
        for name, tag in sorted(stream.tags.items())
        if tag.head is not None and tag.head.image
    ]
    return Listed(items, listed.position)


def told_by(call: Call) -> Sequence[Subject]:
    """The stream of the tag that is asked for, and the images that are there; or the streams that lists are of."""
    if not call.name:
        return streams_of(call)
    return f"{call.namespace}/{call.name.partition(':')[0]}", KNOWN_IMAGES


def object_names(name: str, kind: str) -> tuple[str, str]:
    """Stream and tag of the name in a body. Raises Refusal."""
    try:
        return split_stream_tag(name)
    except ValueError:
        raise Refusal(400, f'{kind} names must be of the form <stream_name>:<tag>, not "{name}"') from None


def check_names(call: Call, stream: str, tag: str) -> None:
    """Raises Invalid if no stream, or no tag, may have that name."""
    problems = check_new_name(call.namespace, stream, "")
    if problems:
        raise Invalid(STREAM_KIND, stream, problems)
    problem = tag_name_problem(tag)
    if problem:
        raise Invalid(call.kind, f"{stream}:{tag}", [FieldProblem(Problem.INVALID, "metadata.name", problem, tag)])


def create(call: Call, body: dict[str, Any]) -> Answer:
    """A new spec tag; its stream is made if there is none."""
    sent: SentTag = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    if not sent.meta.name:
        raise Invalid(KIND, "", [FieldProblem(Problem.REQUIRED, "metadata.name", "name is required")])
    stream, tag = object_names(sent.meta.name, KIND)
    check_names(call, stream, tag)
    _check(sent, tag)
    wanted = None if sent.tag is None else _named(sent.tag, tag, sent.meta.annotations)
    view = call.services.commands.create_tag(
        owning(call), call.namespace, stream, tag, TagWrite(tag=wanted), NAME, Expected(image=call.guard), dry=call.dry
    )
    return Answer(shown(call, view), 201)


def _named(tag: TagReference, name: str, annotations: dict[str, str]) -> TagReference:
    return tag.named(name).annotated(annotations or tag.annotations)


def _check(sent: SentTag, tag: str) -> None:
    problems = problems_of(sent.meta)
    if sent.tag is not None:
        if sent.tag.annotations and sent.tag.annotations != sent.meta.annotations:
            detail = "tag annotations must not be provided or must be equal to the object meta annotations"
            problems.append(FieldProblem(Problem.INVALID, "tag.annotations", detail, sent.tag.annotations))
        problems += tag_problems(sent.tag, "tag")
    if problems:
        raise Invalid(KIND, sent.meta.name or tag, problems)


def update(call: Call, body: dict[str, Any]) -> Answer:
    """A spec tag, new or not."""
    stream, tag = names(call)
    sent: SentTag = call.load(SCHEMA, body)
    call.check_meta(sent.meta, name=call.name)
    check_names(call, stream, tag)
    _check(sent, tag)
    write = TagWrite(
        tag=None if sent.tag is None else _named(sent.tag, tag, sent.meta.annotations),
        annotations=sent.meta.annotations,
        labels=sent.meta.labels,
    )
    view, new = call.services.commands.put_tag(
        owning(call), call.namespace, stream, tag, write, NAME, expected(call, sent.meta), dry=call.dry
    )
    return Answer(shown(call, view), 201 if new else 200)


def base(call: Call) -> dict[str, Any]:
    """The object that a patch is applied to: the tag without its image."""
    view = tag_view(call, NAME)
    if view.tag not in view.stream.tags:
        raise NotFound(NAME, call.name)
    found = shown(call, view)
    found.pop("image")
    return found


def delete(call: Call) -> Answer:
    """A tag, with its history."""
    stream, tag = names(call)
    uid = call.services.commands.delete_tag(
        call.caller, call.namespace, stream, tag, NAME, delete_expected(call), dry=call.dry
    )
    return Answer(success(call.name, call.door.group, NAME, uid))


IMAGE_STREAM_TAGS = Resource(
    name=NAME,
    kind=KIND,
    short_names=("istag",),
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
