"""How a kind declares itself: one `Resource`, from which routes and discovery follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from api.call import Answer, Call
from api.selectors import FieldValue
from imagestream_es.application.drawings import Pen
from imagestream_es.application.freshness import Subject
from imagestream_es.application.queries import Listed
from imagestream_es.settings import Settings

if TYPE_CHECKING:
    from api.listing import Selection

Handler = Callable[[Call], Answer]
Finder = Callable[[Call, int | None], Listed[dict[str, Any]]]
Fields = Mapping[str, Callable[[dict[str, Any]], FieldValue]]
Writer = Callable[[Call, dict[str, Any]], Answer]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource, or subresource, of the API and the handlers of its verbs.

    `find` answers the objects of a list, in wire shape and in order, now or at a position in the past, and
    `fields` are what field selectors may ask of them beside name and namespace. `shown` gives one stream or
    image its wire shape, for watches. `list` answers a list page by page, where all of it is too much, and `tells`
    the objects that came with the events behind one position up to another, for watches of what never changes.
    `told_by` are the subjects that an answer to get or list depends on, if it depends on nothing else: such are kept.
    With a `pen`, the objects are streams, and drawn as JSON at once where that is asked for. What is `as_of` can be
    read as of any moment. A list that answers a question has an example of it as `question`, a field selector.
    `parameters` are what a list may be asked beside, with a description of each. `schema` is that of the kind.
    `create` and `update` take the decoded body; `base` answers the object that a patch is applied to, for `update`
    to write. Writes of what is `guarded` can be bound to the
    image that the tag names. A verb without a handler is not offered.
    """

    name: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    legacy: bool = True
    get: Handler | None = None
    told_by: Callable[[Call], Sequence[Subject]] | None = None
    pen: Callable[[Settings], Pen] | None = None
    find: Finder | None = None
    fields: Fields = field(default_factory=dict)
    list: Handler | None = None
    tells: Callable[[Call, Selection, int, int], Sequence[dict[str, Any]]] | None = None
    as_of: bool = False
    question: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    shown: Callable[[Call, Any], dict[str, Any]] | None = None
    schema: Schema | None = None
    create: Writer | None = None
    update: Writer | None = None
    base: Callable[[Call], dict[str, Any]] | None = None
    delete: Handler | None = None
    guarded: bool = False
    subresources: Mapping[str, Resource] = field(default_factory=dict)

    @property
    def list_kind(self) -> str:
        """The kind that a subresource answers: some answer lists."""
        return self.kind + "List" if self.kind == "Secret" else self.kind

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs offered, by the names that authorization uses, in order."""
        offered = {
            "create": self.create,
            "delete": self.delete,
            "deletecollection": self.shown and self.delete,
            "get": self.get,
            "list": self.find or self.list,
            "patch": self.base,
            "update": self.update,
            "watch": self.shown or self.tells,
        }
        return tuple(verb for verb, handler in offered.items() if handler is not None)
