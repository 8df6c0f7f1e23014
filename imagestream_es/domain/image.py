"""An image: what one digest holds, known once for all streams.

The content is kept as the document that the API shows (without what the server adds), since no rule of
ours looks deeper into it. It never changes; labels, annotations, pull spec and signatures may.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from imagestream_es.domain.errors import AlreadyExists, Conflict
from imagestream_es.domain.events import (
    ImageDeleted,
    ImageDeletionRequested,
    ImageEvent,
    ImageRegistered,
    ImageUpdated,
    Origin,
)

RESOURCE = "images"
KIND = "Image"

Document = dict[str, Raw]
"""Top-level fields of the wire object, each as JSON text: metadata (labels, annotations, finalizers), dockerImage…"""

_NULL = Raw(b"null")


class Image:
    """One image; `document` holds its fields while it `exists`.

    One that `is_as_registered` is all told by its last event, which made it known.
    """

    __slots__ = (
        "created",
        "deletion",
        "document",
        "exists",
        "id",
        "is_as_registered",
        "name",
        "pending",
        "position",
        "uid",
        "version",
    )

    def __init__(self, name: str) -> None:
        self.id = name
        self.name = name
        self.version = 0
        self.position = 0
        self.exists = False
        self.is_as_registered = False
        self.uid = ""
        self.created = 0
        self.deletion: int | None = None
        self.document: Document = {}
        self.pending: list[ImageEvent] = []

    def copy(self) -> Image:
        """The image as it is now, untouched by what happens to this one later."""
        twin = Image(self.name)
        for slot in self.__slots__:
            setattr(twin, slot, getattr(self, slot))
        twin.pending = []
        return twin

    @property
    def parts(self) -> list[str]:
        """The names of the images that a manifest list is made of."""
        manifests = msgspec.json.decode(self.document.get("dockerImageManifests", b"null"))
        return [manifest["digest"] for manifest in manifests or ()]

    def apply(self, event: ImageEvent) -> None:
        """Fold one event into the image."""
        self.is_as_registered = isinstance(event, ImageRegistered)
        if isinstance(event, ImageDeleted):
            self.exists = False
            self.document = {}
        else:
            if isinstance(event, ImageRegistered):
                self.exists = True
                self.uid = event.uid
                self.created = event.by.seconds
                self.deletion = None
                self.document = {}
            elif isinstance(event, ImageDeletionRequested):
                self.deletion = event.by.seconds
            document = self.document | event.changes
            self.document = {key: value for key, value in document.items() if value != _NULL}
        self.version += 1

    def _record(self, event: ImageEvent) -> None:
        self.apply(event)
        self.pending.append(event)

    def register(self, by: Origin, uid: str, document: Mapping[str, Raw]) -> None:
        """Make the image known. Raises AlreadyExists."""
        if self.exists:
            raise AlreadyExists(RESOURCE, self.name)
        self._record(ImageRegistered(by=by, uid=uid, changes=dict(document)))

    def update(self, by: Origin, document: Mapping[str, Raw]) -> None:
        """Write the document; nothing happens if that is how it is."""
        wanted = dict.fromkeys(self.document, _NULL) | dict(document)
        changes = {key: value for key, value in wanted.items() if not _same(self.document.get(key, _NULL), value)}
        if not changes:
            return
        if self.deletion is not None and not self._finalizers(document):
            self._record(ImageDeleted(by=by))
        else:
            self._record(ImageUpdated(by=by, changes=changes))

    def delete(self, by: Origin) -> None:
        """Delete the image, or begin to if finalizers hold it. Histories go on naming it."""
        if not self._finalizers(self.document):
            self._record(ImageDeleted(by=by))
        elif self.deletion is None:
            self._record(ImageDeletionRequested(by=by))

    def check_position(self, position: int | None, uid: str | None) -> None:
        """Raises Conflict if the caller saw another position, or means another object, than this one."""
        if uid and uid != self.uid:
            raise Conflict.other_object(RESOURCE, self.name, uid, self.uid)
        if position is not None and position != self.position:
            raise Conflict(RESOURCE, self.name)

    @staticmethod
    def _finalizers(document: Mapping[str, Raw]) -> list[str]:
        metadata = msgspec.json.decode(document.get("metadata", _NULL)) or {}
        return list(metadata.get("finalizers") or ())


def _same(old: Raw, new: Raw) -> bool:
    return bytes(old) == bytes(new) or bool(msgspec.json.decode(old) == msgspec.json.decode(new))
