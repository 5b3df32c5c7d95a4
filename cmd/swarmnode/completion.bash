# The words of the line, with those put together again that bash cuts at = and :. For where the package bash-completion is not.
declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref()
{
    local i line=$COMP_LINE
    words=() cword=0
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        if ((i == 0)) || [[ $line == [[:space:]]* ]]; then
            words+=("${COMP_WORDS[i]}")
        else
            words[-1]+=${COMP_WORDS[i]}
        fi
        ((i == COMP_CWORD)) && cword=$((${#words[@]} - 1))
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"${COMP_WORDS[i]}"}
    done
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}

declare -F _filedir >/dev/null || _filedir() # is called with -d only
{
    mapfile -t COMPREPLY < <(compgen -d -- "$cur")
    compopt -o filenames 2>/dev/null
}

