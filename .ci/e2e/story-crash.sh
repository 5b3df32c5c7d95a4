#!/usr/bin/env bash
# What is killed goes on: a mirror in mid-transfer, a master, an index, a publisher's old backup, Ctrl-C anywhere.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-crash
archive

cp -a --reflink=auto "$E2E_CACHE/v1" "$work/tree"
total=$(tree_bytes "$work/tree")
free_port; master_port=$port
free_port; mirror_port=$port
free_port; other_port=$port

start_master() {
  publish master "$work/tree" "$work/master" "$master_port" --name archive
  wait_published master
}
start_mirror() { join mirror "$work/mirror" "$mirror_port" "$address"; }
mirror() { of "$work/mirror" "$id" "$1"; }

exact() { # exact WHAT: what the running mirror gives is the published tree
  rm -rf "$work/out" "$work/get-exact"
  check "$1: get" got exact "$id" "$work/out" "$(address_of "$work/mirror")"
  check "$1: byte-exact" same_tree "$work/tree" "$work/out"
  rm -rf "$work/out" "$work/get-exact"
}

# --- a mirror is killed in mid-transfer
start_master
first_id=$id first_release=$release first_address=$address
caught=no
for _ in 1 2 3; do
  rm -rf "$work/mirror"
  start_mirror
  until_true 60 "a third of the bytes are here" holds_some "$work/mirror" "$id" $((total / 3))
  signal STOP master # the transfer stands still, so that what is here gets synced, and the kill is in the middle
  here_bytes=$(mirror bytes_here)
  ((here_bytes < total * 95 / 100)) && caught=yes && break
  signal CONT master
  stop KILL mirror
done
check "the transfer was caught in the middle" test "$caught" = yes
sleep 5 # the store groups its syncs, 2 s when it is idle
here_bytes=$(mirror bytes_here)
stop KILL mirror
start_mirror # the master still stands still, so what this process counts as here is what the last one synced
until_true 60 "the mirror knows what it has" holds_some "$work/mirror" "$id" 0
kept=$(mirror bytes_here)
step "killed with $(mib "$here_bytes") of $(mib "$total") here, started again with $(mib "$kept")"
check "at least 90 % of what was here survived" at_most $((here_bytes * 9 / 10)) "$kept"
signal CONT master
until_true 180 "the mirror complete" complete "$work/mirror" "$id" "$release"
moved=$(mirror received_bytes)
step "figure: resumed with $(mib "$moved"), missing were $(mib $((total - kept)))"
check "nothing that was synced is fetched again" at_most "$moved" $(((total - kept) * 102 / 100 + (1 << 20)))
exact "after a kill in mid-transfer"

# --- three more kills, at moments that nobody chose
stop TERM mirror
rm -rf "$work/mirror"
for _ in 1 2 3; do
  start_mirror
  sleep "0.$((RANDOM % 9 + 1))"
  stop KILL mirror
done
start_mirror
until_true 180 "the mirror complete after three kills" complete "$work/mirror" "$id" "$release"
exact "after three kills"

# --- the master is killed and started again
stop KILL master
start_master
check "a restarted master keeps its collection" test "$id" = "$first_id"
check "a restarted master keeps its identity and address" test "$address" = "$first_address"
check "a restarted master does not go back in releases" test "$release" -ge "$first_release"
check "a restarted master finds nothing new" test "$(published master new_bytes)" = 0
before=$(mirror received_bytes)
until_true 60 "the mirror complete with the restarted master" complete "$work/mirror" "$id" "$release"
check "the mirror fetches no content again" at_most "$(mirror received_bytes)" $((before + (1 << 20)))

# --- the index is deleted
stop TERM master
find "$work/master" -type d -name index -prune -print -exec rm -rf {} + >"$work/logs/index.out"
check "there was an index to delete" test -s "$work/logs/index.out"
start_master
check "the index is rebuilt: nothing is new" test "$(published master new_bytes)" = 0
check "the collection is the same" test "$id" = "$first_id"
stop TERM master
cp -a "$work/master" "$work/backup" # a copy of the keys and of a state that will be old

# --- an old backup of the publisher wants to publish
apply "$E2E_CACHE/v2" "$work/tree"
start_master
until_true 180 "the mirror complete with the next release" complete "$work/mirror" "$id" "$release"
check "the next release has a greater number" test "$release" -gt "$first_release"
after_index=$(published master new_bytes)
check "after the rebuild only what changed is new" at_most "$after_index" $((total / 2))
newest=$release
stop KILL master
mirror_address=$(address_of "$work/mirror")
mv "$work/tree" "$work/released"
cp -a --reflink=auto "$E2E_CACHE/v1" "$work/tree" # in the same place, so that the place is not what it refuses
echo 'a third state' >"$work/tree/third.txt"
publish fork "$work/tree" "$work/backup" "$other_port" --name archive --bootstrap "$mirror_address"
until_true 120 "the old backup decided" published_or_ended fork
if running fork; then
  check "an old backup refuses to publish (it made release $(published fork release))" false
  stop TERM fork
else
  reap fork
  check "an old backup refuses to publish" test "$status" = 1
  check "it says why" says fork 'newer|newest|fork|behind|older|extend'
fi
rm -rf "$work/tree"
mv "$work/released" "$work/tree"
check "the mirror keeps the release that it had" complete "$work/mirror" "$id" "$newest"
exact "after the attempt to fork"
rm -rf "$work/backup"
stop TERM mirror

# --- Ctrl-C at any moment
interrupted() { # interrupted NAME: the process started a moment ago gets Ctrl-C
  sleep "$((RANDOM % 2)).$((RANDOM % 90 + 10))"
  stop INT "$1" 15
  check "Ctrl-C ends $1 cleanly (status $status)" test "$status" -le 1 -o "$status" = 130
  check "Ctrl-C: no stack trace from $1" no_trace "$1"
}
for _ in 1 2 3; do
  publish master "$work/tree" "$work/interrupted" "$master_port" --name archive
  interrupted master
done
publish master "$work/tree" "$work/interrupted" "$master_port" --name archive
wait_published master
for _ in 1 2 3; do
  join mirror "$work/mirror2" "$mirror_port" "$address"
  interrupted mirror
done
for _ in 1 2 3; do
  start get "$SWARMNODE" get "$id" -o "$work/out" --bootstrap "$address" --home "$work/get-get"
  interrupted get
done
join mirror "$work/mirror2" "$mirror_port" "$address"
until_true 180 "the interrupted mirror complete" complete "$work/mirror2" "$id" "$release"
check "the interrupted get goes on" got get "$id" "$work/out" "$address"
check "the interrupted get is byte-exact" same_tree "$work/tree" "$work/out"
rm -rf "$work/out"
stop INT master
mirror_address=$(address_of "$work/mirror2")
check "get from the interrupted mirror alone" got again "$id" "$work/out" "$mirror_address"
check "it is byte-exact" same_tree "$work/tree" "$work/out"
finish
