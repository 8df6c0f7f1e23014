"""Keys that have work are given out one at a time, each to one worker, and not before their time."""

from __future__ import annotations

import threading
import time

from imagestream_es.application.turns import Turns


def test_keys_come_in_the_order_in_which_they_were_put():
    turns = Turns()
    for key in ("b", "a", "b", "c"):
        turns.put(key)
    assert [turns.take() for _ in range(3)] == ["b", "a", "c"]


def test_a_key_that_is_put_while_it_is_taken_comes_again_afterwards():
    turns = Turns()
    turns.put("a")
    assert turns.take() == "a"
    turns.put("a")
    turns.put("b")
    assert turns.take() == "b"  # not a: somebody has it
    turns.done("a")
    assert turns.take() == "a"


def test_a_key_that_is_done_does_not_come_again():
    turns = Turns()
    turns.put("a")
    turns.done(turns.take() or "")
    turns.put("b")
    assert turns.take() == "b"


def test_a_key_may_come_again_after_a_while_and_lets_others_go_first():
    turns = Turns()
    turns.put("a")
    turns.done(turns.take() or "", 0.05)
    before = time.monotonic()
    turns.put("b", 0.01)
    assert [turns.take(), turns.take()] == ["b", "a"]
    assert time.monotonic() - before >= 0.04


def test_what_waits_is_brought_forward_when_it_is_put_again():
    turns = Turns()
    turns.put("a", 3600)
    turns.put("a")
    assert turns.take() == "a"
    turns.done("a")
    turns.put("b")
    assert turns.take() == "b"  # the later time of a is void


def test_who_waits_is_let_go_when_the_queue_is_closed():
    turns, found = Turns(), []
    waiting = threading.Thread(target=lambda: found.append(turns.take()))
    waiting.start()
    turns.close()
    waiting.join(10)
    assert found == [None]
