"""The Pseudo-labels tab: choose a method, look at ten patches, accept it or do without."""
