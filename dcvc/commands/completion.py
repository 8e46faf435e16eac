"""Print a script that lets a shell complete commands, options and their words:

eval "$(dcvc completion bash)" in ~/.bashrc, eval "$(dcvc completion zsh)" in ~/.zshrc.
"""

import argparse

from dcvc.commands.catalog import COMMANDS, parser_of

# Both scripts hold the same table, so pressing Tab starts no Python. What is no option and has no
# words of its own is a file's name. {commands}, {options}, {words}: lines of shell.
BASH = """\
# Completion of dcvc for bash: eval "$(dcvc completion bash)"
_dcvc() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words= options=
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$current")); return
  fi
  case "${{COMP_WORDS[1]}} $before" in
{words}
  esac
  case "${{COMP_WORDS[1]}}" in
{options}
  esac
  if [ -z "$words" ]; then
    case "$current" in -*) words=$options ;; esac
  fi
  if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$current"))
  else COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _dcvc dcvc
"""
ZSH = """\
# Completion of dcvc for zsh: eval "$(dcvc completion zsh)"
_dcvc() {{
  local current=$words[CURRENT] before=$words[CURRENT-1] command=$words[2] choices= options=
  if (( CURRENT == 2 )); then
    compadd -- {commands}; return
  fi
  case "$command $before" in
{words}
  esac
  case "$command" in
{options}
  esac
  if [[ -z "$choices" && "$current" == -* ]]; then choices=$options; fi
  if [[ -n "$choices" ]]; then compadd -- ${{=choices}}; else _files; fi
}}
if ! whence compdef >/dev/null; then autoload -Uz compinit && compinit; fi
compdef _dcvc dcvc
"""
# Shell -> its script, and how it calls the words that may follow.
SHELLS = {"bash": (BASH, "words"), "zsh": (ZSH, "choices")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that reads the script")


def run(options: argparse.Namespace) -> None:
    print(script(options.shell), end="")


def script(shell: str) -> str:
    template, variable = SHELLS[shell]
    after, known = [], []
    for name in COMMANDS:
        flags, words = _flags_and_words(parser_of(name))
        known.append(f'    "{name}") options="{" ".join(flags)}" ;;')
        for given, choices in words.items():
            # A command that has kinds, as bench has, is followed by one of them.
            before = f"{name} {given or name}"
            after.append(f'    "{before}") {variable}="{" ".join(choices)}" ;;')
    return template.format(commands=" ".join(COMMANDS), words="\n".join(after),
                           options="\n".join(known))


def _flags_and_words(parser: argparse.ArgumentParser) -> tuple[list[str], dict[str, list[str]]]:
    """A command's options, and what may follow which of them; "" is the command's own name."""
    flags, words = [], {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                more, following = _flags_and_words(inner)
                flags += [flag for flag in more if flag not in flags]
                words.update(following)
        flags += [name for name in action.option_strings if name.startswith("--")]
        if action.choices:
            # Where the help shows some of the words, the others are old spellings.
            shown = str(action.metavar or "")
            told = shown[1:-1].split(",") if shown.startswith("{") else map(str, action.choices)
            words.update(dict.fromkeys(action.option_strings or [""], list(told)))
    return flags, words
