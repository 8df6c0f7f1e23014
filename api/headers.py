"""Texts in headers, which HTTP does not say how to read: they are UTF-8 if they can be."""

from __future__ import annotations


def text_of(value: str) -> str:
    """What a header says whose bytes WSGI has handed over as Latin-1."""
    told = value.encode("latin-1", "replace")
    try:
        return told.decode()
    except UnicodeDecodeError:  # what browsers and many libraries send
        return told.decode("latin-1")
