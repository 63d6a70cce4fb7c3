"""Print a shell's completion of `miad-jax`: `miad-jax completion bash`.

    miad-jax completion bash > ~/.local/share/bash-completion/completions/miad-jax
    miad-jax completion zsh >> ~/.zshrc

The words in it are the commands and flags of the version that printed it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from absl import flags

from miad_jax.commands import COMMANDS
from miad_jax.commands import cli as command
from miad_jax.spelling import did_you_mean

SHELLS = ("bash", "zsh")

FLAGS = flags.FlagValues()

SCRIPT = """\
_miad_jax() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words="{commands}"
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${{COMP_WORDS[1]}}" in
{cases}
      *) words="" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
  if [ "${{#COMPREPLY[@]}}" -eq 0 ]; then COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -F _miad_jax miad-jax
"""


def main(argv: Sequence[str]) -> int:
    """Print what the command line asks for."""
    shell = command.parse(FLAGS, argv, str(__doc__), positional="SHELL")
    if shell not in SHELLS:
        raise ValueError(
            f"no completion for {shell!r}{did_you_mean(shell, SHELLS)}; allowed: "
            f"{', '.join(SHELLS)}"
        )
    cases = []
    for name in COMMANDS:
        words = " ".join(SHELLS) if name == "completion" else " ".join(_flags_of(name))
        cases.append(f'      {name}) words="{words}" ;;')
    if shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(SCRIPT.format(commands=" ".join(COMMANDS), cases="\n".join(cases)), end="")
    return 0


def _flags_of(name: str) -> list[str]:
    """The flags of a command, as people type them."""
    values = importlib.import_module(f"miad_jax.commands.{name}").FLAGS
    own = [flag for module in values.flags_by_module_dict().values() for flag in module]
    words = []
    for flag in sorted({flag.name for flag in own}):
        boolean = isinstance(values[flag], flags.BooleanFlag)
        words.append(f"--{flag}" + ("" if boolean else "="))
    return [*words, "--help"]
