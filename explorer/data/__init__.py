"""Pair sets: IconWorld, CIFAR-10, poisoning."""
