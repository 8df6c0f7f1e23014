"""The wire: what clients send becomes values, what the service knows becomes JSON. camelCase lives here."""
