"""What the rounds have brought so far, what may be wrong, and whether to go on."""
