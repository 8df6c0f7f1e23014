"""Event-sourced image streams: one log of domain events, one fold, many doors."""

__version__ = "0.1.0"
