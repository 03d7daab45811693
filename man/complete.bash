# Completion of bakelite(1) for bash: the program itself is asked what it takes.

_bakelite() {
    local commands verb word words
    commands=$(bakelite --help 2>/dev/null | sed -n 's/^  \([a-z]*\)  .*/\1/p')
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $'\n'$commands$'\n' == *$'\n'$word$'\n'* ]] && verb=$word && break
    done
    words=$(bakelite $verb --help 2>/dev/null | sed '/^Example/q' | grep -o -e '--[a-z-]*')
    [[ $verb ]] || words+=$'\n'$commands
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _bakelite bakelite
