"""The tree over the log: hashed as RFC 6962 says, with leaves that nobody may ever compute otherwise."""

from __future__ import annotations

from hashlib import sha256

import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.persistence.merkle import Checkpoint, Tree, leaf_hash, node_hash, record

DATA = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""Leaves that certificate logs are tested with, and below the roots over the first of them."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


def grown(leaves: list[bytes]) -> Tree:
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_published_vectors(size: int) -> None:
    tree = grown([sha256(b"\0" + data).digest() for data in DATA[:size]])
    assert tree.checkpoint() == (size, bytes.fromhex(ROOTS[size]))


@given(st.lists(st.binary(max_size=3).map(lambda data: sha256(data).digest()), max_size=200), st.integers(0, 200))
def test_a_tree_that_grew_and_was_kept_in_between_has_the_root_of_the_definition(leaves: list[bytes], cut: int) -> None:
    first = grown(leaves[:cut])
    tree = Tree.read(first.size, first.write())
    for leaf in leaves[cut:]:
        tree.add(leaf)
    assert tree.checkpoint() == (len(leaves), naive_root(leaves))
    assert grown(leaves).write() == tree.write()


def test_the_leaf_of_an_event_is_the_hash_of_bytes_that_are_fixed_for_ever() -> None:
    event = StoredEvent("shop/wéb", 258, "imagestream.created", b'{"\xff')
    written = bytes.fromhex(
        "00"  # a leaf
        "0000000000010000"  # position 65536
        "0000000000000102"  # version 258
        "00000009"  # bytes of the id
        "00000013"  # bytes of the topic
        "00000003"  # bytes of the state
    )
    written += "shop/wéb".encode() + b"imagestream.created" + b'{"\xff'
    assert leaf_hash(*record(65536, event)) == sha256(written).digest()
    assert leaf_hash(*record(65536, event)).hex() == "a29927a9b59fe4421a0318a64599937436f56c2f5074d1e8f6018bcf8c536102"


@st.composite
def placed_events(draw: st.DrawFn) -> tuple[int, StoredEvent]:
    texts = st.text("ab", max_size=3)
    event = StoredEvent(draw(texts), draw(st.integers(1, 3)), draw(texts), draw(st.binary(max_size=3)))
    return draw(st.integers(1, 3)), event


@given(placed_events(), placed_events())
def test_events_that_differ_have_leaves_that_differ(
    one: tuple[int, StoredEvent], other: tuple[int, StoredEvent]
) -> None:
    assert (leaf_hash(*record(*one)) == leaf_hash(*record(*other))) == (one == other)


@pytest.mark.parametrize(("size", "stored"), [(1, b""), (3, b"x" * 32), (2, b"x" * 31), (0, b"x" * 32)])
def test_what_is_no_tree_is_not_read_as_one(size: int, stored: bytes) -> None:
    with pytest.raises(ValueError, match="are no tree"):
        Tree.read(size, stored)


def test_a_checkpoint_is_written_and_read_as_size_and_root() -> None:
    checkpoint = Checkpoint(17, bytes.fromhex(ROOTS[3]))
    assert str(checkpoint) == f"17:{ROOTS[3]}"
    assert Checkpoint.parse(str(checkpoint)) == checkpoint
    assert Checkpoint.parse(str(checkpoint).upper()) == checkpoint


@pytest.mark.parametrize("text", ["", "17", f"-1:{ROOTS[1]}", f"01:{ROOTS[1]}", f"1:{ROOTS[1]}0", f"1:{ROOTS[1]} "])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not SIZE:ROOT"):
        Checkpoint.parse(text)
