#!/usr/bin/env bash
# A mirror's disk rots: bits flip in the running and in the stopped store. No wrong byte is ever given, one scrub finds every
# flip, and peers mend it.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-rot
seed=${SEED:-$RANDOM}
step "seed $seed (SEED)"
(cd "$root" && go build -o "$work/rot" ./.ci/rot)

# --- a tree of about 200 MiB: one large file, some middling, many small
mkdir -p "$work/tree/pool"
head -c $((128 << 20)) /dev/urandom >"$work/tree/image.iso"
for i in {1..30}; do head -c $((2 << 20)) /dev/urandom >"$work/tree/pool/package-$i.deb"; done
for i in {1..2000}; do echo "$i of $seed" >"$work/tree/pool/readme-$i.txt"; done
free_port; publish master "$work/tree" "$work/master" "$port" --name rotten
wait_published master
for n in a b c; do
  free_port
  [[ $n != a ]] || port_a=$port
  join "$n" "$work/$n" "$port" "$address"
done
for n in a b c; do until_true 120 "mirror $n complete" complete "$work/$n" "$id" "$release"; done
dir=$work/a/collections/$id
a() { of "$work/a" "$id" "$1"; }
rot() { "$work/rot" -dir "$dir" -pack "$work/copy.pack" -seed "$1" -chunks "$2" -blocks "$3" | tee -a "$work/logs/rot.out" | tail -1; }
scrub() { run scrub 120 "$SWARMNODE" scrub --home "$work/a" --rate 1GB --wait --json; }

exact() { # exact WHAT: what mirror a gives
  local from
  from=$(address_of "$work/a")
  rm -rf "$work/out" "$work/get-exact" "$work/get-verify"
  check "$1: get from the mirror" got exact "$id" "$work/out" "$from"
  check "$1: byte-exact" same_tree "$work/tree" "$work/out"
  check "$1: verify" verify_tree "$work/out" "$id" "$from"
}

# --- the running store
hit=$(rot "$seed" 600 40)
chunks=$(jq .chunks <<<"$hit") blocks=$(jq .blocks <<<"$hit")
step "figure: 640 flips hit $chunks chunks and $blocks metadata blocks of the running mirror"
timestamp=$dir/trust/timestamp.json
printf '\001' | dd of="$timestamp" bs=1 seek=40 conv=notrunc status=none
start getter "$SWARMNODE" get "$id" -o "$work/during" --bootstrap "$(address_of "$work/a")" --home "$work/get-during"
began_scrub=$(seconds)
scrub
check "the scrub ends with everything repaired" test "$status" = 0
step "figure: a scrub of $(mib "$(a scrub.bytes)") and the repair took $(since "$began_scrub") s"
check "it found every flip: $((chunks + blocks + 1)) damaged (said: $(a scrub.bad))" test "$(a scrub.bad)" = $((chunks + blocks + 1))
check "all of it is repaired" test "$(a scrub.repaired)" = "$(a scrub.bad)"
until_true 60 "the get that ran meanwhile ended" not running getter
reap getter
check "a get during the rot succeeds (status $status)" test "$status" = 0
check "and gives no wrong byte" same_tree "$work/tree" "$work/during"
rm -rf "$work/during"
exact "after the first rot"

# --- the stopped store, found by a scrub of the stopped home
stop TERM a
hit=$(rot $((seed + 1)) 317 0)
chunks=$(jq .chunks <<<"$hit")
run offline 120 "$SWARMNODE" scrub --home "$work/a" --rate 1GB --json
check "a scrub of the stopped store succeeds" test "$status" = 0
found=$(jq .scrub.bad "$work/logs/offline.out")
check "it found every flip: $chunks chunks (said: $found)" test "$found" = "$chunks"

# --- the stopped store, metadata and state too, found by the start
hit=$(rot $((seed + 2)) 0 36)
for f in "$timestamp" "$dir"/trust/state.json "$dir/segments/journal" "$dir/mirror.json" "$dir/collection.json" "$dir/scrub.json"; do
  printf '\001' | dd of="$f" bs=1 seek=40 conv=notrunc status=none
done
join a "$work/a" "$port_a" "$address"
until_true 60 "the mirror complete again" complete "$work/a" "$id" "$release"
scrub
check "nothing is missing after the start and a scrub" test "$status" = 0
check "all that was found is repaired" test "$(a scrub.missing)" = 0
bad=$(a scrub.bad)
scrub
check "one more scrub finds nothing" test "$(a scrub.bad)" = "$bad"
exact "after the second rot"
for n in master a b c; do check "no stack trace from $n" no_trace "$n"; done
finish
