"""What an operator does to the persons in a log: see who is named in it, and forget them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from imagestream_es.application.principals import forget as forget_in
from imagestream_es.bootstrap import database_file, milliseconds, open_store
from imagestream_es.persistence.principals import Principal, everybody
from imagestream_es.persistence.store import Store
from imagestream_es.settings import Settings


class NothingThere(Exception):
    """There is no log where the settings point."""


def principals(settings: Settings) -> list[Principal]:
    """Everybody whose id is in the log, by name; the service may run meanwhile. Raises NothingThere without a log."""
    with _opened(settings) as store, store.reading() as rows:
        return everybody(rows)


def forget(settings: Settings, name: str) -> int:
    """Erase everybody of a name; answers how many there were. The service may run meanwhile.

    Raises NothingThere without a log, NotErased.
    """
    with _opened(settings) as store:
        return forget_in(store, name, milliseconds())


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    if not settings.database_url:
        require_log(settings)
    with closing(open_store(settings)) as store:
        yield store


def require_log(settings: Settings) -> None:
    """Raises NothingThere if the settings point at no embedded log."""
    path = database_file(settings)
    if not path.exists():
        message = f"there is no log at {path}: point --data-dir at the directory that the service uses"
        raise NothingThere(message)
