"""Who callers are, and what they may do. Nothing here knows of HTTP or of the log."""
