#!/usr/bin/env bash
# What real trees, disks and people do: odd names and links, full disks, wrong addresses, unreadable and changing files.
# Each must end in a clear error or the right result, and nothing may be lost.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-odd
free_port; master_port=$port
free_port; mirror_port=$port
free_port; other_port=$port

random_file() { mkdir -p "$(dirname "$1")"; head -c "$2" /dev/urandom >"$1"; }

# exact TREE WHAT: a get from the address is that tree.
exact() {
  rm -rf "$work/out" "$work/get-exact"
  check "$2: get" got exact "$id" "$work/out" "$address" 60
  check "$2: byte-exact" same_tree "$1" "$work/out"
}

# refused_or_exact TREE WORDS WHAT [ODD]: publishing the tree either fails and says one of the words, or works and gives the
# same tree, or works without what it names in a warning; the rest (what ODD does not match) must then be there.
refused_or_exact() {
  local tree=$1 words=$2 what=$3 odd=${4:-$2} h=$work/home-refused
  rm -rf "$h" "$work/out" "$work/get-odd" "$work"/logs/odd.*
  publish odd "$tree" "$h" "$other_port"
  until_true 60 "$what: published or refused" published_or_ended odd
  check "$what: no stack trace" no_trace odd
  if ! running odd; then
    reap odd
    check "$what: refused, with exit 1" test "$status" = 1
    check "$what: refused with one of the words $words" says odd "$words"
    return
  fi
  wait_published odd
  check "$what: published, get" got odd "$id" "$work/out" "$address" 60
  if same_tree "$tree" "$work/out" >/dev/null 2>&1; then
    check "$what: published and byte-exact" true
  else
    check "$what: published with a warning of the words $words" says odd "$words"
    check "$what: nothing but that is missing or different" test -z "$(diff -r --no-dereference "$tree" "$work/out" 2>&1 | grep -Ev "$odd" | head -5)"
  fi
  stop TERM odd
}

# --- names, links, empty things: all of it a real archive holds
good=$work/good
mkdir -p "$good/drivers" "$good/empty directory" "$good/links" "$good/deep/$(printf 'd/%.0s' {1..30})"
echo device >"$good/aux.c"
echo upper >"$good/drivers/xt_MARK.h"
echo lower >"$good/drivers/xt_mark.h"
echo space >"$good/two  spaces and a trailing one "
echo percent >"$good/100%25 %2F %s %00.txt"
echo utf8 >"$good/žluťoučký kůň 日本語 🐧.txt"
echo quote >"$good/it's \"quoted\" \$HOME \`x\` & ; * ?.txt"
echo dash >"$good/-rf"
echo hash >"$good/#hash?query=1"
printf '%0250d' 0 >"$good/$(printf 'n%.0s' {1..255})"
: >"$good/empty file"
echo end >"$good/deep/$(printf 'd/%.0s' {1..30})end"
ln -s ../aux.c "$good/links/inside"
ln -s "../empty directory" "$good/links/directory"
ln -s . "$good/links/loop"
ln -s missing "$good/links/dangling"
printf '#!/bin/sh\n' >"$good/run.sh"
chmod 755 "$good/run.sh"
touch -d '1994-03-01 12:00:00' "$good/aux.c"
random_file "$good/one chunk" $((1 << 20))
random_file "$good/one chunk and a byte" $(((1 << 20) + 1))
random_file "$good/large.bin" $((5 << 20))
publish master "$good" "$work/master" "$master_port" --name good
wait_published master 60
exact "$good" "odd names"
join mirror "$work/mirror" "$mirror_port" "$address"
until_true 60 "a mirror of odd names complete" complete "$work/mirror" "$id" "$release"
check "ls shows an odd name" grep -q xt_MARK.h <(list_tree "$id/drivers" "$address")
check "get of one odd name" got one "$id/100%25 %2F %s %00.txt" "$work/one" "$address" 60
check "it has the right bytes" grep -rq percent "$work/one"
good_id=$id good_address=$address mirror_address=$(address_of "$work/mirror")

# --- wrong addresses and IDs, while that swarm runs
wrong() { # wrong WHAT STATUSES WORDS: judges the last run, called wrong
  check "$1: exit status $status is one of $2" grep -qw "$status" <<<"$2"
  check "$1: says one of $3" says wrong "$3"
  check "$1: no stack trace" no_trace wrong
}
peer=${good_address##*/p2p/}
get wrong "$good_id" "$work/none" "/ip4/127.0.0.1/tcp/1/p2p/$peer" 60
wrong "a bootstrap that nobody answers at" 1 'reach|connect|refused|answer'
get wrong "$good_id" "$work/none" "nonsense" 60
wrong "a bootstrap that is no address" "1 2" 'nonsense|address|/p2p/'
stranger=$(address_of "$work/mirror")
get wrong "$good_id" "$work/none" "${good_address%/p2p/*}/p2p/${stranger##*/p2p/}" 60
wrong "a bootstrap with another peer's ID" 1 'answered as|identity|match'
get wrong "not-an-id" "$work/none" "$good_address" 60
wrong "an ID that is none" "1 2" 'not-an-id|ID'
letter=${good_id:20:1}
other_id=${good_id:0:20}$([[ $letter == a ]] && echo b || echo a)${good_id:21}
get wrong "$other_id" "$work/none" "$good_address" 60
wrong "an ID that nobody publishes" 1 'publish|found|nobody|no peer|unknown|not|serve|hold'
get wrong "$good_id/no/such/path" "$work/none" "$good_address" 60
wrong "a path that is not there" 1 'no/such/path|path|not'
run wrong 60 "$SWARMNODE" join --bootstrap "$mirror_address" --home "$work/wrong" --listen "/ip4/127.0.0.1/tcp/$other_port"
wrong "join to a peer that publishes nothing" "1 2" '--collection'
run wrong 60 "$SWARMNODE" publish "$work/does not exist" --home "$work/wrong2" --listen "/ip4/127.0.0.1/tcp/$other_port"
wrong "publish of a directory that is not there" "1 2" 'does not exist|no such'
run wrong 60 "$SWARMNODE" publish --no-such-flag
wrong "an unknown flag" 2 'no-such-flag'
run wrong 60 "$SWARMNODE" publish "$good" --home "$work/wrong3" --listen "/ip4/127.0.0.1/tcp/$master_port"
wrong "an explicit port that is taken" 1 'in use|taken|already'
run wrong 60 "$SWARMNODE" join --bootstrap "$good_address" --home "$work/mirror" --listen "/ip4/127.0.0.1/tcp/$other_port"
wrong "a second node on one home" 1 'home|lock|running|already'
check "nothing was written for them" not test -e "$work/none/aux.c"
check "the swarm has not suffered" complete "$work/mirror" "$good_id" 1
stop TERM mirror
stop TERM master

# --- what a publisher may refuse
mkdir "$work/newline" && echo a >"$work/newline/a"
echo n >"$work/newline/$(printf 'new\nline')"
refused_or_exact "$work/newline" 'new.?.?line' "a newline in a name" 'new|^line'
mkdir "$work/bytes" && echo a >"$work/bytes/a"
echo b >"$work/bytes/$(printf 'b\xff\xfe')"
refused_or_exact "$work/bytes" 'UTF-8|xff' "a name that is not UTF-8" ': b'
mkdir "$work/out-link" && echo a >"$work/out-link/a"
ln -s /etc/passwd "$work/out-link/absolute"
ln -s ../../outside "$work/out-link/up"
refused_or_exact "$work/out-link" 'absolute|up|link|outside|leads' "symlinks that lead out"
mkdir "$work/special" && echo a >"$work/special/a"
mkfifo "$work/special/pipe"
refused_or_exact "$work/special" 'pipe|fifo|special' "a pipe"

# --- unreadable files, as somebody who is not root
if [[ $(id -u) == 0 ]]; then
  mkdir -p "$work/unreadable/locked" "$work/nobody"
  echo a >"$work/unreadable/a"
  echo secret >"$work/unreadable/secret.key"
  echo inside >"$work/unreadable/locked/inside"
  chmod 000 "$work/unreadable/secret.key" "$work/unreadable/locked"
  chown -R 65534:65534 "$work/unreadable" "$work/nobody"
  chmod 711 "$work"
  cp "$SWARMNODE" "$work/swarmnode-nobody"
  chmod 755 "$work/swarmnode-nobody"
  run wrong 30 env HOME="$work/nobody" setpriv --reuid=65534 --regid=65534 --clear-groups "$work/swarmnode-nobody" publish \
    "$work/unreadable" --home "$work/nobody/home" --listen "/ip4/127.0.0.1/tcp/$other_port" --json
  wrong "unreadable files" "1 124" 'permission|denied|read'
  check "unreadable files: one of them is named" says wrong 'secret.key|locked'
  chmod -R u+rwX "$work/unreadable"
else
  echo "--- SKIP: $name: unreadable files and full disks: not root"
fi

# --- a 3 KB collection
random_file "$work/tiny/notes.txt" 3000
publish master "$work/tiny" "$work/tiny-master" "$master_port"
wait_published master 30
t=$(seconds)
join mirror "$work/tiny-mirror" "$mirror_port" "$address"
until_true 30 "a mirror of 3 KB complete" complete "$work/tiny-mirror" "$id" "$release"
step "figure: 3 KB complete $(since "$t") s after join began"
exact "$work/tiny" "3 KB"
stop TERM mirror
stop TERM master

# --- a file that changes while it is published
changing_named() { says live changing.log || says master changing.log; }
random_file "$work/live/changing.log" $((40 << 20))
random_file "$work/live/still.bin" $((20 << 20))
for i in {1..200}; do random_file "$work/live/many/$i" 5000; done
(while :; do
  dd if=/dev/urandom of="$work/live/changing.log" bs=4096 seek=$((RANDOM % 10000)) count=1 conv=notrunc status=none
  echo line >>"$work/live/changing.log"
done) &
writer=$!
publish master "$work/live" "$work/live-master" "$master_port"
until_true 60 "published, or refused, with a file that changes" published_or_ended master
check "a changing file: no stack trace" no_trace master
if running master; then
  wait_published master
  join mirror "$work/live-mirror" "$mirror_port" "$address"
  sleep 3
  get live "$id" "$work/live-out" "$address" 60
  step "get while it changes ended with $status"
  check "a changing file does not stop the others" got still "$id/still.bin" "$work/still-out" "$address" 60
  check "another file is right" cmp "$work/live/still.bin" "$(find "$work/still-out" -type f | head -1)"
  kill "$writer"
  if ((status != 0)); then check "a changing file is named" changing_named; fi
else
  kill "$writer"
  check "a changing file is named" says master changing.log
  publish master "$work/live" "$work/live-master" "$master_port"
  wait_published master
  join mirror "$work/live-mirror" "$mirror_port" "$address"
fi
run again 60 "$SWARMNODE" publish "$work/live" --home "$work/live-master" --json
check "published again once it is still" test "$status" = 0
release=$(published again release)
until_true 60 "the mirror complete once it is still" complete "$work/live-mirror" "$id" "$release"
stop TERM master
address=$(address_of "$work/live-mirror")
exact "$work/live" "after a changing file, from the mirror alone"
stop TERM mirror

# --- full disks
short_of_disk() { says mirror 'space|disk' || status "$work/small/home" '.verdict | test("disk|space")'; }
answers_or_ended() { address_of "$work/small/home" || ! running mirror; }
if [[ $(id -u) == 0 ]]; then
  random_file "$work/heavy/a.bin" $((60 << 20))
  random_file "$work/heavy/b.bin" $((60 << 20))
  publish master "$work/heavy" "$work/heavy-master" "$master_port"
  wait_published master 60
  small_fs "$work/small" 70m || die "no tmpfs can be mounted here"
  join mirror "$work/small/home" "$mirror_port" "$address"
  until_true 60 "a mirror on a full disk says so" short_of_disk
  check "a full disk: no stack trace" no_trace mirror
  check "a full disk: the node still runs and answers, or has ended with 1" answers_or_ended
  mount -o remount,size=400m "$work/small"
  running mirror && stop TERM mirror
  join mirror "$work/small/home" "$mirror_port" "$address"
  until_true 90 "the mirror complete once there is space" complete "$work/small/home" "$id" "$release"
  stop TERM mirror
  small_fs "$work/small2" 70m || die "no tmpfs can be mounted here"
  mkdir "$work/small2/out"
  get wrong "$id" "$work/small2/out" "$address" 60
  wrong "get onto a full disk" 1 'space|disk'
  mount -o remount,size=400m "$work/small2"
  check "the get goes on once there is space" got wrong "$id" "$work/small2/out" "$address" 60
  check "it is byte-exact" same_tree "$work/heavy" "$work/small2/out"
  small_fs "$work/small3" 3m || die "no tmpfs can be mounted here"
  head -c 4000000 /dev/zero >"$work/small3/filler" 2>/dev/null || true # until it is full
  run wrong 60 "$SWARMNODE" publish "$work/heavy" --home "$work/small3/home" --listen "/ip4/127.0.0.1/tcp/$other_port"
  wrong "publish with its state on a full disk" 1 'space|disk'
fi
finish
