"""The rows: each measures one thing and answers figures by name."""
