#!/usr/bin/env bash
# The same as story-origin-http with sshd, by SFTP and by rsync over ssh, and with rsync as a daemon. A server whose key is not known is refused
# with the line to add.
#
# ORIGINS="sftp" are the servers; all by default.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-ssh
for part in origins origins-ssh; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
step "tree of $(mib "$(tree_bytes "$work/tree")") in $(find "$work/tree" -type f | wc -l) files and $(find "$work/tree" -type d | wc -l) directories"

# stranger: sshd with a key that nobody knows. The line that is printed is all that is needed.
stranger() {
  local line
  mkdir -p "$work/small"
  echo small >"$work/small/file"
  serve_ssh sftp "$work/small"
  free_port
  run stranger 30 "$SWARMNODE" publish --from "$origin_url" --name small --from-private --home "$work/stranger" --listen "/ip4/127.0.0.1/tcp/$port" --gateway none \
    --ssh-key "$work/user_key" --known-hosts "$work/knows_nobody"
  check "an unknown host is refused" test "$status" = 1
  check "with the line to add" says stranger 'ssh-ed25519 AAAA'
  line=$(cat "$work"/logs/stranger.{out,err} | grep -o '\[[^ ]* ssh-ed25519 AAAA[A-Za-z0-9+/=]*' | head -1)
  check "which is the server's key" grep -qxF -- "$line" "$work/known_hosts"
  far_kill
}
stranger
for server in ${ORIGINS:-sftp rsync-ssh rsyncd}; do
    origin_flags=(--ssh-key "$work/user_key" --known-hosts "$work/known_hosts")
  if [[ $server == rsyncd ]]; then origin_flags=(); fi
  origin_story "$server" ssh links times modes
done
finish
