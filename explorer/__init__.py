"""Implosion Explorer: see, measure and defend against data poisoning in text-to-image diffusion models."""

__version__ = "0.1.0"
