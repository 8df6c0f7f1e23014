"""What `scripts/benchmark.py` is made of: a load generator, the servers that it is pointed at, and the rows."""
