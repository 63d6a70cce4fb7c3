"""Whether a crystal could be one: its structure and its composition."""
