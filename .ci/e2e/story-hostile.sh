#!/usr/bin/env bash
# Hostile peers as processes of their own: what they cost the node that they attack, and that they are named. For each attack the
# node's memory is sampled every second, and an honest peer that takes 2 MiB/s, far below what the machine can do, must get
# at least 90 % of what it got before, one that was connected before and one that comes while the attack runs. HOSTILE_SECONDS (default 5) is how long each attack lasts.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-hostile
seconds=${HOSTILE_SECONDS:-5}
max_rss_kb=$((512 * 1024))

(cd "$root" && go build -o "$work/hostile" ./.ci/hostile)
mkdir "$work/tree"
for i in {1..800}; do head -c 131072 /dev/urandom >"$work/tree/file$i"; done
free_port; master_port=$port
free_port; a_port=$port
free_port; b_port=$port
free_port; c_port=$port
publish master "$work/tree" "$work/master" "$master_port" --name archive
wait_published master
join a "$work/a" "$a_port" "$address"
join b "$work/b" "$b_port" "$address"
until_true 60 "a complete" complete "$work/a" "$id" "$release"
until_true 60 "b complete" complete "$work/b" "$id" "$release"
a_address=$(address_of "$work/a")

# rss NAME: samples the memory of a process every second until it is ended.
rss() {
  local kb
  while kb=$(awk '/VmRSS/ { print $2 }' "/proc/${pid[$1]}/status" 2>/dev/null) && [[ $kb ]]; do
    echo "$kb"
    sleep 1
  done >"$work/logs/rss-$1"
}
top_rss() { sort -n "$work/logs/rss-$1" | tail -1; }

# pace: the better of two short transfers of a new honest peer from a, in bytes per second.
pace() {
  local n
  for n in 1 2; do
    timeout 30 "$work/hostile" probe -to "$a_address" -from "$address" -id "$id" -seconds 2 2>>"$work/logs/probe.err" || echo 0
  done | sort -n | tail -1
}

start_attack() { # start_attack NAME MODE FLAG...
  local n=$1 mode=$2
  shift 2
  start "$n" nice -n 19 "$work/hostile" "$mode" -id "$id" "$@"
}

# named HOME NAME-PATTERN: the status names somebody who did that.
named() { status "$1" ".offenders // [] | map(select(.what | test(\"$2\"))) | length > 0"; }

rss a &
quiet=$(pace)
step "figure: an honest peer gets $(mib "$quiet")/s when nobody attacks"
for mode in streams requests dials gossip providers; do
  start "open-$mode" "$work/hostile" probe -to "$a_address" -from "$address" -id "$id" -seconds "$seconds"
  until_true 30 "an honest peer is connected" says "open-$mode" ready
  start_attack "$mode" "$mode" -to "$a_address" -seconds "$((seconds + 60))"
  sleep 0.5
  end=$((SECONDS + seconds))
  [[ $mode != streams ]] || end=$((end + 12)) # a stream that says nothing is noticed after 15 s
  got=$(pace)
  while ((SECONDS < end)); do sleep 0.2; done
  reap "open-$mode"
  kept=$(tail -1 "$work/logs/open-$mode.out")
  stop TERM "$mode"
  step "figure: $(tail -1 "$work/logs/$mode.out"); honest peers get $(ratio "$kept" "$quiet") over an open connection, $(ratio "$got" "$quiet") over a new one; most memory so far $(mib "$(($(top_rss a) * 1024))")"
  floor=$(awk -v q="$quiet" 'BEGIN { print q * 0.9 }')
  check "$mode: an honest peer keeps 90 % of its speed" at_most "$floor" "$kept"
  check "$mode: a new honest peer gets 90 % of that speed" at_most "$floor" "$got"
  check "$mode: the node runs" running a
  # Now: who does so under thousands of names, as those of the next attacks do, is named instead of him.
  [[ $mode != streams ]] || check "who opens streams and asks nothing is named in the status" named "$work/a" 'asked nothing'
done
check "its memory was sampled" test "$(wc -l <"$work/logs/rss-a")" -ge 20
check "the memory of the node stays under 512 MiB" at_most "$(top_rss a)" "$max_rss_kb"
check "who sends requests that cannot be read is named in the status" named "$work/a" 'cannot be read'
check "who sends false gossip is named in the status" named "$work/a" gossip
check "and banned" status "$work/a" '.offenders | map(select(.banned_until)) | length > 0'
check "the log names them" says a 'a peer is banned: .*[(]peer'
check "the node still has all and says so" complete "$work/a" "$id" "$release"

# --- liars: a new mirror is connected to all of them before it has anything
join c "$work/c" "$c_port" "$address"
until_true 30 "c has an address" address_of "$work/c"
c_address=$(address_of "$work/c")
stop KILL c
rm -rf "$work/c/collections" "$work/c/peers.json"
for how in wrong endless garbage truncate drip deny flip; do
  start_attack "liar-$how" serve -to "$c_address" -from "$address" -seconds 600 -how "$how"
done
for how in wrong endless garbage truncate drip deny flip; do until_true 60 "liar $how is ready" says "liar-$how" '^12D3'; done
# Once the new mirror knows what there is, the honest ones stand still until it has asked the liars.
signal STOP a
signal STOP b
join c "$work/c" "$c_port" "$address"
rss c &
until_true 30 "c holds something" holds_some "$work/c" "$id" 0
signal STOP master
check "it was caught before it had all" not complete "$work/c" "$id" "$release"
all_named() {
  local how
  for how in wrong endless garbage; do
    status "$work/c" ".offenders // [] | map(.peer) | index(\"$(liar "$how")\") != null" || return 1
  done
}
liar() { grep -m 1 '^12D3' "$work/logs/liar-$1.out"; }
until_true 60 "the liars are named in the status" all_named
for n in a b master; do signal CONT "$n"; done
until_true 60 "c complete among liars" complete "$work/c" "$id" "$release"
step "figure: c complete among 7 liars; most memory $(mib "$(($(top_rss c) * 1024))"); wasted $(mib "$(of "$work/c" "$id" wasted_bytes)")"
check "its memory stays under 512 MiB" at_most "$(top_rss c)" "$max_rss_kb"
for how in wrong endless garbage; do
  check "the liar with $how bytes is named in the log" says c "peer $(liar "$how")"
done
check "get from it" got exact "$id" "$work/out" "$c_address"
check "it is byte-exact" same_tree "$work/tree" "$work/out"
for n in master a b c; do check "no stack trace from $n" no_trace "$n"; done
finish
