"""Which patches a person should label next."""
