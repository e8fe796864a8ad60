"""How events run that show nothing of their own while they do."""

from __future__ import annotations

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}
"""Options of such an event. `show_progress_on` is empty, as Gradio's page else keeps a status for every output of every
event that was ever sent, and at each event looks for all these components, one after the other in all of its tree: on a
slow computer it was busy for five more seconds after it was opened, and for a tenth of each second ever after."""
