"""Embedding the patches, choosing the next batch, and showing why."""
