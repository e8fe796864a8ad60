"""The active-learning loop: each module joins one stage to the database.

Order of the data: `importing`, then the folders `pseudolabel`, `annotate`, `predict`, `train`, `select`, `results`,
`export` and `apply`; a module imports from its own folder and from those named before it, which is checked.
`progress` says what comes next; `simulate` runs the loop with an oracle in place of the person. Functions called by
the worker have the signature `fn(store, project_id, report, **params) -> dict`.
"""
