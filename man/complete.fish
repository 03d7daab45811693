# Completion of bakelite(1) for fish: the program itself is asked what it takes.

function __bakelite_commands
    bakelite --help 2>/dev/null | string match -rg '^  ([a-z]+)  '
end

function __bakelite_verb
    set -l commands (__bakelite_commands)
    for word in (commandline -opc)[2..]
        contains -- $word $commands; and echo $word; and return
    end
    return 1
end

function __bakelite_options
    bakelite (__bakelite_verb) --help 2>/dev/null | sed '/^Example/q' |
        string match -rga -- '(--[a-z-]+)'
end

complete -c bakelite -n 'not __bakelite_verb >/dev/null' -f -a '(__bakelite_commands)'
complete -c bakelite -n 'string match -q -- "-*" (commandline -ct)' -a '(__bakelite_options)'
