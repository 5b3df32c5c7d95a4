#!/usr/bin/env bash
# How well a node keeps what its operator gives: the upload of a master under ten greedy peers and four HTTP clients, over 60 s (20 with
# FIGURES_SMALL=1), seen from outside by what they got; then how soon another limit acts. A figure is never a failure here.
#
# Needs curl and jq.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story figures-limits

seconds=60
if [[ ${FIGURES_SMALL:-} == 1 ]]; then seconds=20; fi
quiet=(--no-mdns --no-port-mapping)
tree=$work/tree
mkdir "$tree"
# More than anybody gets in the time, so that nobody is ever done.
openssl enc -aes-128-ctr -nosalt -K 00 -iv 00 </dev/zero 2>/dev/null | head -c $((512 << 20)) >"$tree/image.bin" || true
free_port; master_port=$port
free_port; gateway_port=$port
start master "$SWARMNODE" publish "$tree" --name image --home "$work/master" --listen "/ip4/127.0.0.1/tcp/$master_port" --gateway "127.0.0.1:$gateway_port" \
  --json --upload 20Mbit --lan none "${quiet[@]}"
wait_published master 120

# got: bytes of content that all have got so far. What peers got is read from their directories: they do not talk with each other.
for i in {1..10}; do
  start "peer$i" "$SWARMNODE" get "$id" -o "$work/out$i" --bootstrap "$address" --home "$work/peer$i"
done
for i in {1..4}; do
  start "client$i" curl -s -o "$work/client$i" --interface "127.0.$i.1" "http://127.0.0.1:$gateway_port/image/image.bin"
done
sent() { status "$work/master" .limits.month_sent; }
outside() { du -sB1 "$work"/out* "$work"/client* 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }
sleep 10 # for all to have begun and the buffers between to be full

measure() { # SECONDS: bytes a second that were let go, and that came
  local a b c d from to
  from=$(date +%s.%N) a=$(sent) c=$(outside)
  sleep "$1"
  b=$(sent) d=$(outside) to=$(date +%s.%N)
  awk -v a="$a" -v b="$b" -v c="$c" -v d="$d" -v t="$from" -v u="$to" 'BEGIN { printf "%.0f %.0f", (b - a) / (u - t), (d - c) / (u - t) }'
}
row() { printf '%-44s %12s %12s %10s\n' "$@"; }
read -r let came < <(measure "$seconds"; echo)
"$SWARMNODE" limits set upload=5Mbit --home "$work/master" >"$work/logs/set.out"
sleep 5
read -r let5 came5 < <(measure "$seconds"; echo)
row "10 peers and 4 HTTP clients, $seconds s" "B/s let go" "B/s came" "of limit"
row "--upload 20Mbit (2500000 B/s)" "$let" "$came" "$(ratio "$let" 2500000)"
row "5 s after limits set upload=5Mbit (625000)" "$let5" "$came5" "$(ratio "$let5" 625000)"
within_three() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a >= 0.97 * b && a <= 1.03 * b) }'; }
check "upload within 3 % of 20 Mbit/s" within_three "$let" 2500000
check "and of 5 Mbit/s, 5 s after the change" within_three "$let5" 625000
for i in {1..4}; do stop TERM "client$i"; done
for i in {1..10}; do stop TERM "peer$i"; done
stop TERM master
check "no stack trace" no_trace master
finish
