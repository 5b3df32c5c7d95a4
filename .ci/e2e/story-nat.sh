#!/usr/bin/env bash
# Nodes behind routers in the network lab: each learns that nobody can connect to it and finds a relay; two behind cone NAT get
# a direct connection, two behind symmetric NAT do not and are complete all the same; all serve a newcomer over connections
# that were opened from inside, and to clients that know nobody but a relay. Prints how long each step took.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-nat
lab=$root/.ci/lab/lab
export LAB=nat$$
behind=(cone1 cone2 sym1 sym2)
megabytes=4

status_of() { "$SWARMNODE" status --json --home "$work/$1"; }
tells() { [[ $(status_of "$1" 2>/dev/null | jq "$2") == true ]]; }
peer_id() { status_of "$1" | jq -r .id; }
# direct A B: A has a connection to B that no relay is in
direct() { tells "$1" "any(.peers[]; .id == \"$(peer_id "$2")\" and .transport != \"relay\")"; }
is_zero() { [[ $1 == 0 ]]; }
end_lab() { "$lab" down; }
all() { local n; for n in "${behind[@]}"; do "$@" "$n" || return 1; done; }
has_all() { tells "$1" '.collections[0].complete'; }
is_fine() { tells "$1" .fine; }
by_relay() { tells "$1" '.reach.way == "relay"'; }
# came FROM: bytes of content that the newcomer had from it
came() { status_of late | jq --arg id "$(peer_id "$1")" '[.peers[] | select(.id == $id) | .bytes_in] | add // 0'; }

cat >"$work/topology" <<'TOPOLOGY'
net 11.77.1.0/24        # not a LAN's: AutoNAT and relays look at public addresses only
master 100 100 10 0
cone1   20  50 10 0
cone2   20  50 15 0
sym1    20  50 10 0
sym2    20  50 15 0
late    20  50 10 0
hub    100 100 10 0     # public, has another collection
reader  20  50 10 0
home    20  50 15 0
TOPOLOGY
"$lab" up "$work/topology" --owner $$ || die "the lab could not be made"
"$lab" nat cone1 cone
"$lab" nat cone2 cone
"$lab" nat home cone
"$lab" nat sym1 symmetric
"$lab" nat sym2 symmetric
mkdir "$work/tree" "$work/other"
head -c $((megabytes << 20)) /dev/urandom >"$work/tree/large"
echo other >"$work/other/file"

# public NODE DIR: a publisher with a public address
public() {
  start "$1" "$lab" exec "$1" "$SWARMNODE" publish "$2" --home "$work/$1" --listen "/ip4/$("$lab" addr "$1")/tcp/4101" \
    --listen "/ip4/$("$lab" addr "$1")/udp/4101/quic-v1" --public --json --no-mdns --no-port-mapping
  wait_published "$1" 60
}
public hub "$work/other"
hub=$address
public master "$work/tree"
began_nodes=$(seconds)
for n in "${behind[@]}"; do
  start "$n" "$lab" exec "$n-lan" "$SWARMNODE" join --bootstrap "$address" --bootstrap "$hub" --home "$work/$n" --no-mdns --no-port-mapping
done
until_true 90 "all four are complete" all has_all
step "four nodes behind routers are complete after $(since "$began_nodes") s"
until_true 120 "all four are reached by a relay" all by_relay
step "all four have a relay after $(since "$began_nodes") s"
until_true 120 "a direct connection between the two behind cone NAT" direct cone1 cone2
step "two behind cone NAT are connected directly after $(since "$began_nodes") s"
until_true 120 "attempts between the two behind symmetric NAT" tells sym1 '.reach.unpunched > 0'
check "the two behind symmetric NAT are not connected directly" not direct sym1 sym2
check "they are fine all the same" all is_fine
"$SWARMNODE" status --home "$work/sym1" | grep -A1 'reached  '

# The master sends slowly from now on: most has to come from behind the routers.
"$lab" rate master 1 100
began_late=$(seconds)
start late "$lab" exec late "$SWARMNODE" join --bootstrap "$address" --home "$work/late" --no-mdns --no-port-mapping
until_true 180 "the newcomer complete" has_all late
step "a newcomer has $megabytes MiB after $(since "$began_late") s; from the master alone, 1 Mbit/s, it takes $((megabytes * 8 * 105 / 100)) s"
from=0
for n in "${behind[@]}"; do
  b=$(came "$n")
  from=$((from + b))
  step "of these $(mib "$b") from $n"
done
check "at least half of it came from behind routers" at_most $((megabytes << 19)) "$from"
ends() {
  local n
  for n in "$@"; do
    stop INT "$n"
    check "$n ended well" is_zero "$status"
  done
}
ends late cone2 sym1 sym2 master

# All of the collection is behind cone1's router now, and the clients know of the hub only, which has nothing of it.
# gets NAME NODE: a client there
gets() {
  local from_now
  from_now=$(seconds)
  run "$1" 120 "$lab" exec "$2" "$SWARMNODE" get "$id" -o "$work/$1" --bootstrap "$hub" --home "$work/get-$1"
  check "$1 gets from a holder behind a cone NAT" same_tree "$work/tree" "$work/$1"
  step "$1: $megabytes MiB after $(since "$from_now") s"
}
gets public-client reader
gets client-behind-cone-NAT home-lan
check "status tells of a direct connection through both routers" tells cone1 '.reach.punched > 0'
"$SWARMNODE" status --home "$work/cone1" | grep -A1 'reached  '
ends cone1 hub
end_lab
finish
