"""The Annotate tab: the canvas, what it asks of the server, and what answers its clicks."""
