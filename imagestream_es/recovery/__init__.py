"""How a log leaves its store and comes back: backups, exports, and what is made of them."""
