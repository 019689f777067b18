# What `sh` runs once the gateway has answered: it becomes the account's shell, which reads the script below.
stty "$__trailgate_tty"
exec 9<<'TRAILGATE'
@SCRIPT@
TRAILGATE
if [ -r /dev/fd/9 ]; then
  unset __trailgate_tty __trailgate_text __trailgate_line __trailgate_break
  if [ -n "${ENV+is}" ]; then __trailgate_env=$ENV; export __trailgate_env; fi
  ENV=/dev/fd/9
  export ENV
  exec "$SHELL" --norc -c 'exec -a "-${0##*/}" "$0" --posix' "$SHELL"
fi
exec "$SHELL" -l
