"""Questions to a running service over HTTP, as a person or a script asks them on a command line."""
