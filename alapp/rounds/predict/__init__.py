"""What a model tells of images, as objects, and its scores against labels."""
