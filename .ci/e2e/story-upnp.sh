#!/usr/bin/env bash
# A node behind a router that passes ports on when it is asked to by UPnP (miniupnpd): the node gets its ports, is found to be
# public, says so, and a client outside that knows nothing but the outer address has everything from it. Prints how long each
# step took.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-upnp
lab=$root/.ci/lab/lab
export LAB=upnp$$

tells() { [[ $("$SWARMNODE" status --json --home "$work/home" 2>/dev/null | jq "$1") == true ]]; }
is_zero() { [[ $1 == 0 ]]; }
ports() { "$lab" exec home nft list chain inet mapper inward | grep -c dnat; }
both_ports() { (($(ports) == 2)); } # TCP and UDP
says_so() { "$SWARMNODE" status --home "$work/home" | grep -E "reached +by anybody, confirmed at /ip4/$("$lab" addr home)/.*, which the router passes on"; }

cat >"$work/topology" <<'TOPOLOGY'
net 11.78.1.0/24        # not a LAN's: AutoNAT looks at public addresses only
master 100 100 10 0
home    20  50 10 0
outside 20  50 15 0
TOPOLOGY
"$lab" up "$work/topology" --owner $$ || die "the lab could not be made"
"$lab" nat home upnp
mkdir "$work/tree"
head -c $((4 << 20)) /dev/urandom >"$work/tree/large"

start master "$lab" exec master "$SWARMNODE" publish "$work/tree" --home "$work/master" --listen "/ip4/$("$lab" addr master)/tcp/4101" \
  --listen "/ip4/$("$lab" addr master)/udp/4101/quic-v1" --public --json --no-mdns --no-port-mapping
wait_published master 60
began_home=$(seconds)
start home "$lab" exec home-lan "$SWARMNODE" join --bootstrap "$address" --home "$work/home" --no-mdns
until_true 60 "the router passes two ports on" both_ports
step "the router passes two ports on after $(since "$began_home") s"
until_true 60 "the node is public at an address of its router" tells '.reach.way == "public" and .reach.forwarded'
step "found to be public after $(since "$began_home") s"
check "status says so" says_so
until_true 60 "the node is complete" tells '.collections[0].complete'
stop INT master
check "master ended well" is_zero "$status"
outer=$("$SWARMNODE" status --json --home "$work/home" | jq -r '.reach.confirmed[0] + "/p2p/" + .id')
began_get=$(seconds)
run get 120 "$lab" exec outside "$SWARMNODE" get "$id" -o "$work/got" --bootstrap "$outer" --home "$work/get"
check "a client outside gets all from $outer" same_tree "$work/tree" "$work/got"
step "in $(since "$began_get") s"
stop INT home
check "the node ended well" is_zero "$status"
"$lab" down
finish
