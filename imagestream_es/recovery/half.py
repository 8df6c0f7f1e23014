"""The program that folds half of a log into a file of its own, for `halves`: LOG FILE POSITION."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from threading import Thread

from imagestream_es.persistence import read_model
from imagestream_es.persistence.halves import is_ours
from imagestream_es.persistence.sqlite import SQLiteStore, Use
from imagestream_es.projections import projector


def _is_other(originator: object) -> bool:
    return not is_ours(originator)


def _fold(log: str, file: str, until: int) -> None:
    with closing(SQLiteStore(log, Use.READ)) as source, closing(SQLiteStore(file, Use.SCRATCH)) as target:
        target.create_tables()
        with source.reading() as events, target.writing() as views:
            read_model.drop_indexes(views)
            projector.fold(events, views, 0, until, lambda *_: None, bulk=True, mine=_is_other)


def _end_with_who_began_this(file: str) -> None:
    sys.stdin.read()
    Path(file).unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    Thread(target=_end_with_who_began_this, args=sys.argv[2:3], daemon=True).start()
    _fold(sys.argv[1], sys.argv[2], int(sys.argv[3]))
