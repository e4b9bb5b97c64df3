"""The page around the screens: server, theme, addresses, messages."""
