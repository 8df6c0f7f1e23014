"""ImageStreamLayers: it is only answered, and described for documents of the API."""

from __future__ import annotations

from api.schemas.fields import Flag, ManyByName, Text, TextList, Whole
from api.schemas.meta import KindSchema, Wire


class ImageLayerDataSchema(Wire):
    """What is known of a blob in the registry."""

    size = Whole("The size of the blob, in bytes; null where it is not known.", metadata={"nullable": True})
    mediaType = Text("The media type of the blob.")


class ImageBlobReferencesSchema(Wire):
    """The blobs that one image consists of."""

    layers = TextList("The digests of the layers, the lowest first.", metadata={"nullable": True})
    config = Text("The digest of the configuration; null where it is not known.", metadata={"nullable": True})
    imageMissing = Flag("Whether the image was deleted, so that nothing is known of its layers.")
    manifests = TextList("The names of the images for single platforms, where the image is a list of them.")


class ImageStreamLayersSchema(KindSchema):
    """Every image in the histories of a stream, with the blobs that it consists of.

    A registry reads it to see what may be pulled through the stream.
    """

    blobs = ManyByName(ImageLayerDataSchema, "What is known of every blob, by its digest.")
    images = ManyByName(ImageBlobReferencesSchema, "The blobs of every image, by its name.")
