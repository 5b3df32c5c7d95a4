#!/usr/bin/env bash
# A node that is asked to stop while it sends and fetches has ended within 5 s, in order, and goes on where it was; also when nobody reads
# its log.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-stop

limit=5 # seconds: what the project promises
mkdir "$work/tree"
head -c 1000000000 /dev/urandom >"$work/tree/big.iso"
for i in {1..300}; do head -c 70000 /dev/urandom >"$work/tree/small-$i.deb"; done
free_port; master_port=$port
free_port; mirror_port=$port

gateway_of() { status "$1" .gateway.local; }
sending() { # sending HOME CLIENTS: so many clients of its gateway are being served
  status "$1" ".gateway.connections >= $2"
}
# clients NAME HOME: ten that read slowly, as on a bad line, and two that read fast, from its gateway
clients() {
  local g
  g=$(gateway_of "$2")
  for i in {1..10}; do start "$1-slow-$i" curl -sS --limit-rate 200k -o /dev/null "${g}archive/big.iso"; done
  for i in 1 2; do start "$1-fast-$i" curl -sS --limit-rate 40M -o /dev/null "${g}archive/big.iso"; done
}
# timed_stop NAME: stops it and leaves in $took how long that took
timed_stop() {
  local t
  t=$(seconds)
  stop "${2:-TERM}" "$1" 60
  took=$(since "$t")
}

publish master "$work/tree" "$work/master" "$master_port" --name archive --gateway 127.0.0.1:0 --no-mdns
wait_published master
clients master "$work/master"
for n in mirror other; do
  free_port
  join $n "$work/$n" "$port" "$address" --gateway 127.0.0.1:0 --no-mdns
done
until_true 60 "a tenth is at the mirror" holds_some "$work/mirror" "$id" 100000000
clients mirror "$work/mirror"
start follow "$SWARMNODE" status --follow --home "$work/mirror"
start logs "$SWARMNODE" logs -f --level debug --home "$work/mirror"
until_true 30 "clients are served by the mirror" sending "$work/mirror" 5
here_bytes=$(of "$work/mirror" "$id" bytes_here)
timed_stop mirror
step "figure: a mirror that fetches ($(mib "$here_bytes") of 973 MiB here), sends and is followed has stopped after $took s"
check "a mirror under load stops within $limit s" at_most "$took" "$limit"
check "in order" test "$status" = 0
check "without a trace" no_trace mirror
reap follow
check "who followed it was told" grep -q 'the node stops$' "$work/logs/follow.out"
reap logs
check "and the log ended in order" test "$status" = 0

until_true 30 "clients are served by the master" sending "$work/master" 5
timed_stop master INT
step "figure: a master that sends to a mirror and to 12 clients has stopped after $took s"
check "a master under load stops within $limit s" at_most "$took" "$limit"
check "in order" test "$status" = 0
check "without a trace" no_trace master

# --- and everything goes on
publish master "$work/tree" "$work/master" "$master_port" --name archive --gateway 127.0.0.1:0 --no-mdns
wait_published master
join mirror "$work/mirror" "$mirror_port" "$address" --gateway 127.0.0.1:0 --no-mdns
until_true 120 "the mirror is complete" complete "$work/mirror" "$id" "$release"
again=$(of "$work/mirror" "$id" received_bytes)
step "figure: after the restart $(mib "$again") were fetched"
check "what was here before the stop was not fetched again" at_most "$again" $((1021000000 - here_bytes + (32 << 20)))

# --- nobody reads the log: a pager, or a journal that hangs
mkfifo "$work/pager"
exec {pager}<>"$work/pager" # a reader that never reads
timeout 1 cat /dev/zero >&"$pager" || true # until it is full
# shellcheck disable=SC2016 # the inner shell expands it
start unread bash -c 'exec "$@" 2>"$0"' "$work/pager" "$SWARMNODE" join --bootstrap "$address" --home "$work/unread" --listen /ip4/127.0.0.1/tcp/0 \
  --gateway 127.0.0.1:0 --no-mdns --log-level debug
until_true 60 "a tenth is at the mirror whose log nobody reads" holds_some "$work/unread" "$id" 100000000
clients unread "$work/unread"
until_true 30 "clients are served by it" sending "$work/unread" 5
"$SWARMNODE" logs --level debug --home "$work/unread" >"$work/logs/unread.log"
check "it has logged" test -s "$work/logs/unread.log" # one line is enough to wait for a full pipe
timed_stop unread
step "figure: a mirror whose log nobody reads has stopped after $took s"
check "a mirror whose log nobody reads stops within $limit s" at_most "$took" "$limit"
check "in order" test "$status" = 0
exec {pager}>&-

# --- idle, for comparison
timed_stop mirror
step "figure: an idle mirror has stopped after $took s"
check "an idle mirror stops within $limit s" at_most "$took" "$limit"
finish
