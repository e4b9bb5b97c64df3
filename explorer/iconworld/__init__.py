"""The embedded world: icons, captions, scenes, and its small networks."""
