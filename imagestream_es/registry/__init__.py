"""The registries outside: what images are made of, and how they are fetched."""
