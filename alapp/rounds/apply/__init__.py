"""The model on images that are not part of the project."""
