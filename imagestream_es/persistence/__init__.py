"""The one log and the views beside it, in SQLite or PostgreSQL."""
