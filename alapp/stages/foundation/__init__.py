"""What the foundation models (micro_sam, SAM 2, CellSAM) of several stages have in common."""
