"""Parts of one model put into another: what that restores or damages, and what mere displacement would."""
