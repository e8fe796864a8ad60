"""A person's work on the patches of a batch: its journal, the answers to clicks, and what it cost."""
