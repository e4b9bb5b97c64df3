"""Where a text is read: attention recorded and edited, its maps and their statistics."""
