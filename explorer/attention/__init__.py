"""Where a text is read: attention recorded, its maps and their statistics."""
