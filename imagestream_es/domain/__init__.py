"""The rules of image streams: pure values, aggregates and their events.

Nothing here reads a clock, makes an id, opens a file or knows how the wire looks.
"""
