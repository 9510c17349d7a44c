"""Scripts that let a shell complete the command line: each asks the program, and offers files where it has no
answer.

The question is the environment variable :data:`VARIABLE` and the words as they stand, the last of them
unfinished; the answers are lines of a word, a tab, and what it is. Words that end in ``.`` or ``=`` are gone
on with.
"""

VARIABLE = "_CONGLING_COMPLETE"
BASH = """\
_congling_completion() {
    local IFS=$'\\n' word line last words=() prefix
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do  # bash parts words at = and :, which keys and files have
        last=$((${#words[@]} - 1))
        if [[ $last -ge 0 && ( $word == [=:]* || ${words[last]} == *[=:] ) ]]; then
            words[last]+=$word
        else
            words+=("$word")
        fi
    done
    last=$((${#words[@]} - 1))
    prefix=${words[last]%"${words[last]##*[=:]}"}
    while read -r line; do
        line=${line%%$'\\t'*}
        COMPREPLY+=("${line#"$prefix"}")
    done < <(_CONGLING_COMPLETE=1 "$1" "${words[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[=.] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -o bashdefault -F _congling_completion congling
"""
ZSH = """\
#compdef congling
_congling() {
    local line value text
    local -a open whole
    for line in "${(@f)$(_CONGLING_COMPLETE=1 ${words[1]} "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        value=${line%%$'\\t'*} text=${line#*$'\\t'}
        value=${value//:/\\\\:}:$text
        if [[ ${value%%:*} == *[=.] ]]; then open+=("$value"); else whole+=("$value"); fi
    done
    (( ${#open} )) && _describe 'key' open -S ''
    (( ${#whole} )) && _describe 'word' whole
    (( ${#open} + ${#whole} )) || _files
}
if [[ $funcstack[1] == _congling ]]; then _congling "$@"; else compdef _congling congling; fi
"""
FISH = """\
function __congling_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    _CONGLING_COMPLETE=1 command $program $words "$last" 2>/dev/null
end
complete -c congling -a '(__congling_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
