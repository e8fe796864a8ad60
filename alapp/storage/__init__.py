"""The project's memory: one SQLite database (`db`, one module a group of tables) and array files (`files`).

Rows are only ever added; "what comes next" and "which is current" are queries. Soft-deleted projects and
images carry the time in `deleted`, so that deleting can be undone.
"""
