"""The training loop, conditioning, losses and fine-tuning."""
