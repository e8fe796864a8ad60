"""The active-learning loop: each module joins one stage to the database.

Order of the data: importing, pseudo, training (pre-training), embedding, selection, annotation, training,
evaluation; `progress` says what comes next; `simulate` runs the loop with an oracle in place of the person.
Functions called by the worker have the signature `fn(store, project_id, report, **params) -> dict`.
"""
