"""The Rounds tab: the map of patches, the next batch, its picks, and the rounds so far."""
