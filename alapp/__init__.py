"""Active learning for instance segmentation of microscopy images.

Read `alapp/stages/` from top to bottom and you have the pipeline; `alapp/rounds/` joins the stages to
the database; `alapp/ui/` shows it.
"""

from alapp.environment import prepare

__version__ = "0.1.0"

prepare()
