"""Instance labels without a person: foundation models, and built-in methods that need no weights."""
