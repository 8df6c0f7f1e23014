"""imageusages: where an image was ever tagged, from when to when."""

from __future__ import annotations

from typing import Any

from werkzeug.datastructures import MultiDict

from api.call import Answer, Call
from api.errors import Refusal
from api.listing import Selection, answer_part, page_of
from api.resource import Fields, Resource
from api.resources.tag_changes import place_behind
from api.schemas.history import ImageUsageSchema, usage_json
from api.schemas.image import EXAMPLE_DIGEST
from imagestream_es.domain.past import Scope

FIELDS: Fields = {name: lambda item, name=name: str(item[name]) for name in ("image", "stream", "tag")}  # type: ignore[misc]


def _images(call: Call, selection: Selection) -> list[str]:
    """The images that are asked for. Raises Refusal if none is."""
    selected = selection.given("image")
    named = call.args.getlist("image") if isinstance(call.args, MultiDict) else []
    wanted = dict.fromkeys(filter(None, [selected] if selected else named))
    if not wanted:
        example = "fieldSelector=image=sha256:…, or the parameter image=sha256:…, which can be repeated"
        raise Refusal(400, f"imageusages are those of an image: say of which, with {example}")
    return list(wanted)


def listed(call: Call) -> Answer:
    """A page of usages, those that began first first."""
    page, selection = page_of(call), Selection(call.args, FIELDS)
    scope = Scope(
        namespace=call.namespace or selection.requires("metadata.namespace"),
        stream=selection.requires("stream"),
        tag=selection.requires("tag"),
    )
    behind = place_behind(page)
    found = call.services.history.usages(_images(call, selection), scope, page.at)
    rest: list[dict[str, Any]] = [
        usage_json(usage) for usage in found.found if behind is None or usage.since.place > behind
    ]
    return answer_part(page, [item for item in rest if selection.chooses(item)], found.position)


IMAGE_USAGES = Resource(
    name="imageusages",
    kind="ImageUsage",
    legacy=False,
    list=listed,
    fields=FIELDS,
    question=f"image={EXAMPLE_DIGEST}",
    parameters={"image": "The image that is asked for; several times, for several."},
    schema=ImageUsageSchema(),
)
