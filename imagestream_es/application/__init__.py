"""Commands and questions: what the service can be told and asked."""
