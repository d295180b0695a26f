"""Training: the one loop, the engine around each trained network, and checkpoints we can trust."""
