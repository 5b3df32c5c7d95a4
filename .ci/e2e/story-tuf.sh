#!/usr/bin/env bash
# A stock TUF client, which has never heard of swarmnode, verifies a collection through a mirror's gateway while the master is off:
# the checksums of the tree and a heavy file. Then somebody in the middle lies to it in eight ways; each must be refused.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-tuf
free_port; master_port=$port
free_port; mirror_port=$port
free_port; gateway=127.0.0.1:$port
free_port; liar=127.0.0.1:$port

command -v npm >/dev/null || die "this story needs node and npm"
cp "$here"/tuf-js/* "$work/"
(cd "$work" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --cache "$E2E_CACHE/npm") >"$work/logs/npm.out" 2>&1 || die "tuf-js could not be installed"
step "the client is tuf-js $(jq -r .version "$work/node_modules/tuf-js/package.json"), on node $(node --version)"

tree=$work/tree
mkdir -p "$tree/iso/amd64" "$tree/doc"
echo "read this" >"$tree/doc/README"
echo one >"$tree/pkg.deb"
# Heavy is from 256 MiB on; most of it is a hole, and .xz is cut every 1 MiB.
truncate -s 257M "$tree/iso/amd64/netinst.iso.xz"
head -c 3000000 /dev/urandom | dd of="$tree/iso/amd64/netinst.iso.xz" bs=1M seek=100 conv=notrunc status=none

# client STATE BASE [TARGET FILE]...: a client with what it has seen before in STATE.
client() {
  local state=$1 base=$2
  shift 2
  run "client" 120 node "$work/client.mjs" "$state" "http://$base/-/cdimage/metadata" "http://$base/-/cdimage/targets" "$@"
  return "$status"
}

# metadata DIRECTORY: what the gateway serves of it now, under the names that it is asked for.
metadata() {
  local base=http://$gateway/-/cdimage/metadata d=$1/-/cdimage/metadata snapshot
  mkdir -p "$d"
  curl -sSf -o "$d/timestamp.json" "$base/timestamp.json"
  snapshot=$(jq '.signed.meta["snapshot.json"].version' "$d/timestamp.json")
  curl -sSf -o "$d/$snapshot.snapshot.json" "$base/$snapshot.snapshot.json"
}

publish master "$tree" "$work/master" "$master_port" --name cdimage --gateway none
wait_published master
join mirror "$work/mirror" "$mirror_port" "$address" --gateway "$gateway"
until_true 120 "the mirror is complete" complete "$work/mirror" "$id" "$release"

# The ID is the hash of the first root: whoever has the ID from the publisher can check the root that he begins with.
mkdir "$work/first"
check "the first root comes from the gateway" curl -sSf -o "$work/first/root.json" "http://$gateway/-/cdimage/metadata/1.root.json"
check "the client accepts the first release" client "$work/first" "$gateway"
metadata "$work/release1"
cp -r "$work/first" "$work/late" # has seen release 1 only

echo two >"$tree/pkg.deb"
publish again "$tree" "$work/master" "$master_port" --name cdimage
until_true 60 "the second publish has handed over" not running again
until_true 120 "the mirror has the second release" complete "$work/mirror" "$id" 2
stop TERM master
check "the client accepts the second release, master off, and downloads what it vouches for" \
  client "$work/first" "$gateway" SHA256SUMS "$work/SHA256SUMS" tree/iso/amd64/netinst.iso.xz "$work/netinst.iso.xz"
check "the checksums are those of the tree" diff <(cd "$tree" && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs sha256sum) <(LC_ALL=C sort -k 2 "$work/SHA256SUMS")
check "the heavy file is the published one" cmp "$tree/iso/amd64/netinst.iso.xz" "$work/netinst.iso.xz"
check "the manifest is a target like any other" client "$work/first" "$gateway" release/cdimage "$work/manifest"
check "and has the name that its hash gives it" test -s "$work/manifest"
metadata "$work/release2"
mkdir "$work/new"
cp "$work/first/root.json" "$work/new"
check "a client that begins now accepts it as well" client "$work/new" "$gateway"

# --- lies. refused STATE WORDS WHAT [TARGET FILE]: the client ends with that error, before or without the file.
refused() {
  local state=$1 words=$2 what=$3
  shift 3
  rm -rf "$work/try"
  cp -r "$state" "$work/try"
  client "$work/try" "$liar" "$@" || true
  check "$what: refused" test "$status" = 1
  check "$what: because of it" says client "$words"
  (($# == 0)) || check "$what: and no file is left" test ! -e "$2"
}
lies=$work/lies
m=$lies/-/cdimage/metadata t=$lies/-/cdimage/targets
fresh() { rm -rf "$lies"; mkdir -p "$m" "$t/iso/amd64" "$t/tree/iso/amd64"; }
fresh
start liar node "$work/tamper.mjs" "${liar#*:}" "$lies" "http://$gateway"
until_true 20 "the liar listens" says liar ready
check "a liar who does not lie is believed" client "$work/new" "$liar"

cp "$work"/release1/-/cdimage/metadata/* "$m/"
refused "$work/first" 'older|less than|version' "an older timestamp"

fresh
jq -c '.signatures[0].sig |= ((if startswith("0") then "1" else "0" end) + .[1:])' "$work/release2/-/cdimage/metadata/timestamp.json" >"$m/timestamp.json"
refused "$work/late" 'signed by|threshold|signature' "a wrong signature"

fresh
jq -c '.signed.version = 2' "$work/first/root.json" >"$m/2.root.json"
refused "$work/late" 'signed by|threshold|signature' "a next root that nobody signed"

fresh
old=("$work"/release1/-/cdimage/metadata/*.snapshot.json) new=("$work"/release2/-/cdimage/metadata/*.snapshot.json)
cp "${old[0]}" "$m/${new[0]##*/}"
refused "$work/late" 'hash|length|version' "mix and match: the new timestamp with the old snapshot"

fresh
head -c -20 "${new[0]}" >"$m/${new[0]##*/}"
refused "$work/late" 'hash|length|JSON' "a truncated snapshot"

fresh
sum=$(sha256sum "$work/SHA256SUMS" | cut -c1-64)
sed 's/^0/1/; t; s/^./0/' "$work/SHA256SUMS" >"$t/$sum.SHA256SUMS"
refused "$work/late" hash "other bytes of a target" SHA256SUMS "$work/wrong"

fresh
head -c 100000 "$work/netinst.iso.xz" >"$t/tree/iso/amd64/$(sha256sum "$work/netinst.iso.xz" | cut -c1-64).netinst.iso.xz"
refused "$work/late" 'length|hash' "a truncated target" tree/iso/amd64/netinst.iso.xz "$work/short"

fresh
export NOW; NOW=$(date -d '+3 years' +%FT%TZ)
refused "$work/late" expired "all of it, three years later"
unset NOW
check "the same client still believes who does not lie" client "$work/late" "$gateway"

check "no stack trace of the mirror" no_trace mirror
stop TERM mirror
finish
