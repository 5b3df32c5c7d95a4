#!/usr/bin/env bash
# The disk that a volunteer gives is all that a mirror takes, at each moment: du looks at its home directory all the time while two
# releases replace each other, beside a gateway that clients read from. A release that does not fit is refused with the figures, and
# the one before it goes on to be served. Prints the worst moment.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-disk
given=$((100 << 20)) # three releases of 30 MB beside each other - replaced ones stay for a day - and what belongs to them; no fourth
mkdir "$work/tree"
renew() { # N: other bytes everywhere, under the same names
  local i
  head -c $((29 << 20)) /dev/urandom >"$work/new" && mv "$work/new" "$work/tree/image.iso"
  for i in {1..200}; do echo "$1 $i" >"$work/new" && mv "$work/new" "$work/tree/note-$i"; done
}
release() { # N: publishes it
  renew "$1"
  run again 60 "$SWARMNODE" publish "$work/tree" --home "$work/master" --name disk --json
  ((status == 0)) || die "release $1 was not published"
}
renew 1
free_port; publish master "$work/tree" "$work/master" "$port" --name disk
wait_published master
home=$work/mirror
free_port; mirror_port=$port
free_port; gateway_port=$port
# du fails when a file goes while it looks, and counts the others all the same.
watch_disk() { while :; do du -sB1 "$home" 2>/dev/null | cut -f1 >>"$work/samples" || true; sleep 0.05; done; }
watch_disk &
pid[watch]=$!
start mirror "$SWARMNODE" join --bootstrap "$address" --home "$home" --no-mdns --listen "/ip4/127.0.0.1/tcp/$mirror_port" --gateway "127.0.0.1:$gateway_port" --disk 100MiB
served() { curl -sf -o "$work/served" "http://127.0.0.1:$gateway_port/disk/image.iso" && cmp "$work/served" "$1"; }
until_true 60 "release 1 is complete" complete "$home" "$id" 1
for n in 2 3; do
  release "$n"
  until_true 60 "release $n is complete" complete "$home" "$id" "$n"
done
check "the third release is served" served "$work/tree/image.iso"
cp "$work/tree/image.iso" "$work/before"
release 4
short() { status "$home" '.verdict | startswith("short of disk")'; }
until_true 60 "the fourth is refused" short
step "$(status "$home" .verdict)"
check "it is told with the figures" status "$home" '.verdict | test("of the 100 MiB given are left")'
check "the release before it is what is here" status "$home" '.collections[0].release == 3'
check "and goes on to be served" served "$work/before"
sleep 2
kill "${pid[watch]}"
reap watch
most=$(sort -n "$work/samples" | tail -1)
step "du looked $(wc -l <"$work/samples") times: at most $(mib "$most") of the $(mib "$given") given, $(ratio "$most" "$given")"
check "never more than was given" test "$most" -le "$given"
check "and most of it was used" test "$most" -gt $((given * 8 / 10))
stop TERM mirror
stop TERM master
check "no stack trace" no_trace mirror
finish
