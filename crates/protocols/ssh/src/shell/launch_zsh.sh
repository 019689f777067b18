# What `sh` runs once the gateway has answered: it becomes the account's zsh, which reads the script below. A zsh takes a
# start-up file from a folder only; what lies there is a link to a pipe, and gone before the first line of it has run.
stty "$__trailgate_tty"
exec 9<<'TRAILGATE'
@SCRIPT@
TRAILGATE
__trailgate_folder=$(umask 077 && mktemp -d 2>/dev/null) &&
  ln -s /dev/fd/9 "$__trailgate_folder/.zshenv" 2>/dev/null &&
  [ -r "$__trailgate_folder/.zshenv" ] && {
  if [ -n "${ZDOTDIR+is}" ]; then __trailgate_zdotdir=$ZDOTDIR; export __trailgate_zdotdir; fi
  ZDOTDIR=$__trailgate_folder
  export ZDOTDIR
  unset __trailgate_tty __trailgate_text __trailgate_line __trailgate_break __trailgate_folder
  exec "$SHELL" -fc 'exec -a "-${0##*/}" "$0"' "$SHELL"
}
[ -z "$__trailgate_folder" ] || rm -rf -- "$__trailgate_folder"
exec "$SHELL" -l
