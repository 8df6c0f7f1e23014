"""The kinds of the API, one file each: a declaration and its handlers."""
