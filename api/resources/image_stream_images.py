"""imagestreamimages: an image seen through a stream that shows it."""

from __future__ import annotations

from api.call import Answer, Call
from api.errors import Refusal
from api.resource import Resource
from api.schemas.tags import image_stream_image_json
from imagestream_es.domain.errors import NotFound
from imagestream_es.domain.references import split_stream_image

NAME = "imagestreamimages"


def get(call: Call) -> Answer:
    """One image of the stream's histories; whoever may read this needs no right on images."""
    try:
        stream_name, wanted = split_stream_image(call.name)
    except ValueError:
        raise Refusal(400, "ImageStreamImages must be retrieved with <name>@<id>") from None
    found = call.services.queries.stream_image(call.namespace, stream_name, wanted, call.at)
    if found is None:
        raise NotFound(NAME, stream_name)
    stream, image = found
    if image is None:
        raise NotFound(NAME, call.name)
    return Answer(image_stream_image_json(stream, call.name, image, call.door.metadata_version))


IMAGE_STREAM_IMAGES = Resource(name=NAME, kind="ImageStreamImage", short_names=("isimage",), as_of=True, get=get)
