"""The Experiments tab: what works on data like the user's, found out on labelled images."""
