"""Networks: the universal extractor, the small Stable Diffusion, checkpoints, attention capture."""
