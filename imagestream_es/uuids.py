"""Random UUIDs for what is many: requests and objects.

They have to be different, not secret. So they come from a generator that the system has seeded once: to ask the system
each time would let another thread run in between, which costs a short request more than all else that it does.
"""

from __future__ import annotations

from random import Random

_bits = Random().getrandbits  # noqa: S311 (nothing depends on its being secret)


def new_uuid() -> str:
    """A random UUID, version 4."""
    digits = f"{_bits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
