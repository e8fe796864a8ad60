"""The Train tab: the plan, the training, the models and their space on disk."""
