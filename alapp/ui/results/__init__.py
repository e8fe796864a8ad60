"""The Results tab: how good the model is, where it is wrong, what it cost, and whether to go on."""
