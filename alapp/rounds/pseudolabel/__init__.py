"""Pseudo-labels of a project's images, and the foundation models on this computer that can make them."""
