#!/usr/bin/env bash
# The same as story-origin-http with sshd, by SFTP and by rsync over ssh, and with rsync as a daemon; and who is let in by SSH.
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

# knock TEXT [VARIABLE=VALUE...] [FLAG...]: asks sshd for a directory that is not there. Who is told so was let in; nothing else takes as little.
knock() {
  local text=$1 env=()
  shift
  while [[ ${1:-} == *=* ]]; do env+=("$1"); shift; done
  free_port
  rm -rf "$work/visitor"
  run knock 30 env -u SSH_AUTH_SOCK "${env[@]}" "$SWARMNODE" publish --from "sftp://root@$origin_host:$origin_port/missing" --name small --from-private --home "$work/visitor" \
    --listen "/ip4/127.0.0.1/tcp/$port" --gateway none "$@"
  knocked=$text
}
let_in() { check "$knocked" test "$status" = 1; check "$knocked: let in" says knock 'missing.*(not exist|no such)'; }
kept_out() { check "$knocked: refused" test "$status" = 1; check "$knocked: told what to do" says knock "$1"; }
one_line() { cat "$work"/logs/knock.{out,err} | grep -o "\[[^ ]* $1 [A-Za-z0-9+/=]*" | head -1; }

# door: who comes in, by which key of either side. The line that is printed about an unknown host is all that is needed.
door() {
  local line kind keys=$work/user/.ssh
  serve_ssh sftp "$work/tree"
  mkdir -p "$keys"
  knock "an unknown host" --ssh-key "$work/user_key" --known-hosts "$work/knows_nobody"
  kept_out 'ssh-ed25519 AAAA'
  line=$(one_line ssh-ed25519)
  check "the line to add is the server's key" grep -qxF -- "$line" "$work/known_hosts"
  # The user's own list, with names that are hashed, and each kind of key that a server can have: it shows the kind that is listed.
  for kind in ed25519 ecdsa rsa; do
    printf '[%s]:%s %s\n' "$origin_host" "$origin_port" "$(cut -d' ' -f1,2 "$work/host_key_$kind.pub")" >"$keys/known_hosts"
    ssh-keygen -q -H -f "$keys/known_hosts" >"$work/logs/hash.out" 2>&1
    check "the name is hashed" not grep -q "$origin_host" "$keys/known_hosts"
    knock "the user's known_hosts with the $kind key" --ssh-key "$work/user_key"
    let_in
  done
  ssh-keygen -q -t ed25519 -N '' -f "$work/other_key"
  printf '[%s]:%s %s\n' "$origin_host" "$origin_port" "$(cut -d' ' -f1,2 "$work/other_key.pub")" >"$work/changed"
  knock "a host whose key has changed" --ssh-key "$work/user_key" --known-hosts "$work/changed"
  kept_out "ANOTHER KEY THAN BEFORE: $(ssh-keygen -lf "$work/host_key_ed25519.pub" | cut -d' ' -f2 | sed 's/+/[+]/g').*line 1 of"
  knock "another key of the user" --ssh-key "$work/other_key"
  kept_out 'authorized_keys'
  cp "$work/user_key" "$keys/id_ed25519"
  knock "the key in ~/.ssh"
  let_in
  cp "$work/user_key" "$work/locked_key"
  ssh-keygen -q -p -N secret -f "$work/locked_key" >"$work/logs/lock.out"
  cp "$work/locked_key" "$keys/id_ed25519"
  knock "a key with a passphrase" --ssh-key "$work/locked_key"
  kept_out 'has a passphrase.*ssh-add'
  knock "a key with a passphrase in ~/.ssh"
  kept_out 'has a passphrase: add it to the agent with ssh-add'
  start agent ssh-agent -D -a "$work/agent"
  until_true 10 "an agent" test -S "$work/agent"
  SSH_AUTH_SOCK=$work/agent ssh-add -q "$work/user_key" 2>"$work/logs/add.out"
  knock "a key with a passphrase that the agent has" SSH_AUTH_SOCK="$work/agent" --ssh-key "$work/locked_key"
  let_in
  rm "$keys/id_ed25519"
  knock "the agent alone" SSH_AUTH_SOCK="$work/agent"
  let_in
  stop TERM agent
  far_kill
}
door
for server in ${ORIGINS:-sftp rsync-ssh rsyncd}; do
  origin_flags=(--ssh-key "$work/user_key" --known-hosts "$work/known_hosts")
  if [[ $server == rsyncd ]]; then origin_flags=(); fi
  origin_story "$server" ssh links times modes
done
finish
