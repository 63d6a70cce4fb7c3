"""How well samples cover a reference set."""
