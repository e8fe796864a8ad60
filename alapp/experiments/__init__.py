"""Experiments on labelled images: what a strategy, a start or a budget is worth, with every label known.

`study` says what is compared, `sources` reads the images, `lab` makes what the runs share, `runs` carries one run out,
`runner` all of them, and `findings` says what they show. Results are rows of the database (`storage.experiments`), so
an experiment that was interrupted goes on where it was.
"""
