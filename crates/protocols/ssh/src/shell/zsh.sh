# What a zsh reads in place of ~/.zshenv: it reads that itself, and all later files are its own. From the first prompt
# on it tells the gateway which lines it runs.
builtin exec 9<&-
/bin/rm -f -- "$ZDOTDIR/.zshenv"
/bin/rmdir -- "$ZDOTDIR"
if (( ${+__trailgate_zdotdir} )); then
  export ZDOTDIR=$__trailgate_zdotdir
  builtin unset __trailgate_zdotdir
else
  builtin unset ZDOTDIR
fi
if [[ -r ${ZDOTDIR:-$HOME}/.zshenv ]]; then
  source "${ZDOTDIR:-$HOME}/.zshenv"
fi

typeset -gHr __trailgate_key=@KEY@
typeset -gi __trailgate_n=0 __trailgate_ran=0

# KIND TEXT: one marker, with one write. Text that is not printable is written out before.
__trailgate_tell() {
  (( __trailgate_n += 1 ))
  builtin printf '\e]7313;%s;%d;%s;%s\a' $__trailgate_key $__trailgate_n $1 "${2-}" >/dev/tty
}

# A line is about to run.
__trailgate_run() {
  {
    emulate -L zsh
    setopt no_multibyte extended_glob
    local text=${1//\\/\\\\} MATCH MBEGIN MEND
    text=${text//(#m)[[:cntrl:]]/\\x${(l:2::0:)$(( [##16] #MATCH ))}}
    __trailgate_ran=1
    if [[ -n $text ]]; then __trailgate_tell C "${#text};$text"
    else __trailgate_tell U
    fi
  } 2>/dev/null
}

# Before the prompt.
__trailgate_prompt() {
  {
    local -i __trailgate_status=$?
    emulate -L zsh
    if (( __trailgate_n == 0 )); then __trailgate_tell R "zsh $ZSH_VERSION"
    elif (( __trailgate_ran )); then __trailgate_tell D $__trailgate_status
    else __trailgate_tell P $__trailgate_status
    fi
    __trailgate_ran=0
    (( ${preexec_functions[(I)__trailgate_run]} )) || preexec_functions+=(__trailgate_run)
  } 2>/dev/null
}

precmd_functions=(__trailgate_prompt ${precmd_functions-})
preexec_functions=(__trailgate_run ${preexec_functions-})
