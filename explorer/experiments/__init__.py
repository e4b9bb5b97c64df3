"""What is done with data and models: train, generate, evaluate, precompute."""
