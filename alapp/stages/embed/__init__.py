"""A feature vector for every patch, learnt from the project's own images without labels."""
