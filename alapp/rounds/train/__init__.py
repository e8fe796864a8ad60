"""Planning, pre-training and the training of a round, and which model is in use."""
