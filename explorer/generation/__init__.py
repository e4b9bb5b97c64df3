"""From prompts to pictures and maps."""
