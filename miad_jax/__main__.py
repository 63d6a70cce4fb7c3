"""The command `miad-jax`, which is `python -m miad_jax`: its first word says what is done.

A command is imported when it is asked for, so that help and completion come at once.
"""

from __future__ import annotations

import sys

from miad_jax.commands import COMMANDS
from miad_jax.spelling import did_you_mean
from miad_jax.version import VERSION

BAD_INPUT = 2


def main() -> None:
    """Run the command that the command line names."""
    name, *rest = [*sys.argv[1:], "--help"][: max(len(sys.argv) - 1, 1)]
    if name in ("-h", "--help", "-help", "help"):
        try:
            print(usage(), flush=True)
        except BrokenPipeError:
            from miad_jax.commands.start import end_unread

            end_unread()
    elif name == "--version":
        print(VERSION)
    elif name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: no command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    else:
        from miad_jax.commands.start import start  # which looks for folders, so not before help

        sys.argv = [f"miad-jax {name}", *rest]
        start(name)


def usage() -> str:
    """What there is, and how to ask for more."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "Crystals that nobody has made yet, generated in JAX.",
            "",
            "usage: miad-jax COMMAND [--flag=value ...]",
            "",
            *lines,
            "",
            "`miad-jax COMMAND --help` lists the flags of a command; `miad-jax --version`.",
            "A command ends with 0 if it did what was asked, 1 if it failed, 2 if something that",
            "was given cannot be used, 130 if it was interrupted. --json is for programs.",
        ]
    )


if __name__ == "__main__":
    main()
