#compdef bakelite
# Completion of bakelite(1) for zsh: the program itself is asked what it takes.

local -a commands options
local verb
commands=(${(f)"$(bakelite --help 2>/dev/null | sed -n 's/^  \([a-z]*\)  .*/\1/p')"})
for word in ${words[2,CURRENT-1]}; do
    (( ${commands[(Ie)$word]} )) && verb=$word && break
done
options=(${(f)"$(bakelite $verb --help 2>/dev/null | sed '/^Example/q' | grep -o -e '--[a-z-]*')"})
compadd -- $options
if [[ -z $verb ]]; then compadd -- $commands; else _files; fi
