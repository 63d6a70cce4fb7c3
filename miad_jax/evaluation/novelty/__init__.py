"""Which crystals are the same: duplicates among samples, and crystals that are known."""
