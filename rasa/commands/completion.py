"""`rasa completion bash|zsh|fish`, and what the printed scripts ask of the program at each TAB.

click knows the protocol and what may stand where. The scripts are our own: no space after a candidate that goes on
(`optimisation.epochs=`), in bash, which splits words at `=`, the value of `-o key=value`, whole descriptions in fish.
Only click up here.
"""

from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

VARIABLE = "_RASA_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
GOES_ON = ("=", "/")  # a candidate that ends so is not whole yet

BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line
    COMPREPLY=()
    for line in $(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1" 2>/dev/null)
    do
        case $line in
            file,*) compopt -o default ;;
            dir,*) compopt -o dirnames ;;
            more,*) COMPREPLY+=("${line#more,}"); compopt -o nospace ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

# Three lines for each candidate: its kind, itself, and its description or an underscore.
ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a told described plain more
    local kind value about
    told=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete \\
        %(prog_name)s 2>/dev/null)}")
    for kind value about in $told; do
        case $kind in
            file) _files ;;
            dir) _files -/ ;;
            more) more+=("$value") ;;
            plain) if [[ $about == _ ]]; then plain+=("$value"); else described+=("$value:$about"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#more )) && compadd -U -V unsorted -S '' -a more
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

# A line for each candidate; its description, which may have commas, stands behind a tab, as fish wants it.
FISH = """\
function %(complete_func)s
    set -l words (commandline -cp)
    set -l word (commandline -t)
    for line in (env COMP_WORDS="$words" COMP_CWORD="$word" %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories $word
            case file
                __fish_complete_path $word
            case '*'
                echo $parts[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """Words as bash splits them, put together again."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """What stands before the word, and the word, with the `=` in it."""
        args, incomplete = super().get_completion_args()
        if incomplete == "=":
            incomplete = ""
            args = [*args, "="]
        while args[1:] and args[-1] == "=":
            incomplete = f"{args[-2]}={incomplete}"
            args = args[:-2]
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Of `key=value` the value alone, for that is the word that bash replaces."""
        found = super().get_completions(args, incomplete)
        begun = incomplete.rpartition("=")[0]
        if begun:
            for item in found:
                item.value = item.value.removeprefix(f"{begun}=")
        return found

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """One line."""
        return f"{_kind(item)},{item.value}"


class Zsh(ZshComplete):
    """As click's, with candidates that go on."""

    source_template = ZSH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Three lines."""
        return super().format_completion(CompletionItem(item.value, type=_kind(item), help=item.help))


class Fish(FishComplete):
    """As click's, with whole descriptions."""

    source_template = FISH


def register() -> None:
    """Have click use these."""
    for each in (Bash, Zsh, Fish):
        add_completion_class(each)


@click.command(short_help="The shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, rows, profiles, config fields and runs at TAB.

    \b
    bash   eval "$(rasa completion bash)"               in ~/.bashrc
    zsh    eval "$(rasa completion zsh)"                in ~/.zshrc, after compinit
    fish   rasa completion fish > ~/.config/fish/completions/rasa.fish
    """
    register()
    chosen = get_completion_class(shell)
    assert chosen is not None
    click.echo(chosen(context.find_root().command, {}, "rasa", VARIABLE).source(), nl=False)


def _kind(item: CompletionItem[Any]) -> str:
    return "more" if item.type == "plain" and str(item.value).endswith(GOES_ON) else item.type
