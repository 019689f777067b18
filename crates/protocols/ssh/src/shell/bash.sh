# What a bash reads in place of its own start-up files: it reads those itself, then begins to tell the gateway which
# lines it runs. It was started as a login shell in POSIX mode, where $ENV is all that is read; that mode ends here.
builtin exec 9<&-
builtin set +o posix
builtin shopt -u inherit_errexit
if [[ -n ${__trailgate_env+is} ]]; then
  ENV=$__trailgate_env
  builtin unset -v __trailgate_env
else
  builtin unset -v ENV
fi
[[ ${HISTFILE-} == "$HOME/.sh_history" ]] && HISTFILE=$HOME/.bash_history
[[ -r /etc/profile ]] && . /etc/profile
if [[ -r ~/.bash_profile ]]; then . ~/.bash_profile
elif [[ -r ~/.bash_login ]]; then . ~/.bash_login
elif [[ -r ~/.profile ]]; then . ~/.profile
fi

# KIND TEXT: one marker, with one write. Text that is not printable is written out before.
__trailgate_tell() {
  builtin printf '\e]7313;%s;%d;%s;%s\a' "$__trailgate_key" "$__trailgate_n" "$1" "${2-}" >/dev/tty
}

# Sets __trailgate_text to the newest line of the history, and __trailgate_number to its number there.
__trailgate_newest() {
  __trailgate_number= __trailgate_text=$(HISTTIMEFORMAT= builtin history 1)
  if [[ $__trailgate_text =~ ^\ *([0-9]+)[*\ ]\  ]]; then
    __trailgate_number=${BASH_REMATCH[1]}
    __trailgate_text=${__trailgate_text:${#BASH_REMATCH[0]}}
  fi
}

# Makes __trailgate_text fit for a marker: its length in bytes, then itself with control characters written out.
__trailgate_quote() {
  local LC_ALL=C code from to
  __trailgate_text=${__trailgate_text//\\/'\\'}
  if [[ $__trailgate_text == *[[:cntrl:]]* ]]; then
    for code in {1..31} 127; do
      builtin printf -v to '\\x%02x' "$code"
      builtin printf -v from "$to"
      __trailgate_text=${__trailgate_text//"$from"/"$to"}
    done
  fi
  __trailgate_text="${#__trailgate_text};$__trailgate_text"
}

# A line is about to run. In a subshell, which PS0 makes.
__trailgate_run() {
  local -
  builtin set +eu
  if [[ ${__trailgate_mark@P} == "$__trailgate_seen" ]]; then
    # No line was added to the history: it is off.
    __trailgate_tell U
  else
    __trailgate_newest
    __trailgate_quote
    __trailgate_tell C "$__trailgate_text"
  fi
}

# Before the prompt, and before all else that happens there.
__trailgate_prompt() {
  local __trailgate_status=$? -
  builtin set +eu
  ((__trailgate_n += 1))
  if [[ -z $__trailgate_seen ]]; then
    __trailgate_tell R "bash $BASH_VERSION"
  elif ((__trailgate_ran)); then
    __trailgate_tell D "$__trailgate_status"
  else
    __trailgate_tell P "$__trailgate_status"
    HISTCONTROL=$__trailgate_control HISTIGNORE=$__trailgate_ignore
  fi
  __trailgate_ran=0
  # Lines were kept that the user's settings leave out of the history, so that they could be told.
  if [[ -n $__trailgate_seen && -n ${HISTCONTROL-}${HISTIGNORE-} && ${__trailgate_mark@P} != "$__trailgate_seen" ]]; then
    __trailgate_newest
    if [[ $HISTCONTROL == *@(ignorespace|ignoreboth)* && $__trailgate_text == ' '* ]] ||
      [[ $HISTCONTROL == *@(ignoredups|ignoreboth)* && $__trailgate_text == "${__trailgate_last-}" ]]; then
      builtin history -d "$__trailgate_number"
    else
      if [[ $HISTCONTROL == *erasedups* || -n $HISTIGNORE ]]; then
        builtin history -d "$__trailgate_number"
        builtin history -s -- "$__trailgate_text"
      fi
      __trailgate_last=$__trailgate_text
    fi
  fi
  builtin return "$__trailgate_status"
}

# Before the prompt, and after all else.
__trailgate_ready() {
  local __trailgate_status=$? -
  builtin set +eu
  if [[ ${PS0-} != *__trailgate_run* ]]; then
    PS0='${__trailgate_none[__trailgate_ran=1,__trailgate_n+=1]-}${__trailgate_names[x${HISTCONTROL:=$__trailgate_control}${HISTIGNORE:=$__trailgate_ignore}]-}$({ __trailgate_run; } 2>/dev/null)'${PS0-}
  fi
  __trailgate_control=${HISTCONTROL-} __trailgate_ignore=${HISTIGNORE-}
  HISTCONTROL= HISTIGNORE=
  __trailgate_seen=${__trailgate_mark@P}
  # A history with one line has the same number as one without any.
  [[ $__trailgate_seen != 1 || -n $(builtin history 1) ]] || __trailgate_seen=0
  builtin return "$__trailgate_status"
}

__trailgate_begin() {
  local -
  builtin set +aeu
  declare -g __trailgate_key=@KEY@ __trailgate_mark='\!' __trailgate_seen= __trailgate_control= __trailgate_ignore=
  declare -gi __trailgate_n=0 __trailgate_ran=0
  declare -ga __trailgate_none=()
  declare -gA __trailgate_names=()
  local name
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    __trailgate_tell X "bash $BASH_VERSION is older than 4.4"
    return 0
  fi
  for name in PROMPT_COMMAND PS0 HISTCONTROL HISTIGNORE; do
    if [[ -v $name && ${!name@a} == *r* ]]; then
      __trailgate_tell X "$name is read-only"
      return 0
    fi
  done
  declare -gr __trailgate_key
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 501)); then
    PROMPT_COMMAND="{ __trailgate_prompt; } 2>/dev/null
${PROMPT_COMMAND-}
{ __trailgate_ready; } 2>/dev/null"
  else
    PROMPT_COMMAND=('{ __trailgate_prompt; } 2>/dev/null' "${PROMPT_COMMAND[@]}" '{ __trailgate_ready; } 2>/dev/null')
  fi
}
__trailgate_begin
builtin unset -f __trailgate_begin
