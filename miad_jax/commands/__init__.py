"""The commands, and what they share."""

COMMANDS = {
    "sample": "make crystals",
    "train": "train a model, or go on with one",
    "evaluate": "judge crystals against a data set",
    "relax": "relax crystals with an interatomic potential",
    "inspect": "look into a data set before training on it",
    "download": "fetch a data set, or a hull",
    "completion": "print what makes a shell complete commands and flags: bash or zsh",
}
"""What each command, a module of this room, does."""
