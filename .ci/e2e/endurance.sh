#!/usr/bin/env bash
# Ten nodes for two hours: a master, nine mirrors, a release every five minutes. Is everything flat once the first quarter is over?
#
# Resident memory, goroutines, descriptors and the bytes of the home directory of each node are written down; each mirror has to have each
# release, and what gateways give has to be right to the byte. What is late is a figure, not a failure: the machine may be busy.
# Environment: ENDURE_MINUTES (120), ENDURE_EVERY (seconds between releases, 300), ENDURE_SAMPLE (seconds between samples, 30), ENDURE_OUT
# (a directory that keeps samples.csv, releases.csv and verdict.txt). A run of less than an hour only shows how flat all is: caches still fill.
#
# Needs curl and jq.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story endurance
minutes=${ENDURE_MINUTES:-120} every=${ENDURE_EVERY:-300} sample=${ENDURE_SAMPLE:-30}
out=${ENDURE_OUT:-$work/out}
mkdir -p "$out"
ended_early() {
  local code=$?
  ((code == 0)) || echo "ended with status $code" >>"$out/verdict.txt"
  ended "$code"
}
trap ended_early EXIT
echo "running since $(date -u +%FT%TZ): $minutes min, a release every $every s" >"$out/verdict.txt"
(cd "$root" && go build -o "$work/judge" ./.ci/endure) # now: the checkout may be another one when it ends

# --- the tree: 200 files of 40 MB; about 1.5 MB of it are new in each release

tree=$work/tree
seed=${SEED:-$RANDOM}
noise() { openssl enc -aes-128-ctr -nosalt -K "$(printf '%08x' "$seed")" -iv "$(printf '%08x' "$1")" </dev/zero 2>/dev/null | head -c "$2" || true; }
mkdir -p "$tree"/{images,pool,dists}
for i in {0..4}; do noise "$i" $((4 << 20)) >"$tree/images/image-$i.iso"; done
for i in {0..184}; do noise $((100 + i)) $((20000 + i * 997)) >"$tree/pool/package-$i.deb"; done
step "seed $seed (SEED); the tree has $(mib "$(tree_bytes "$tree")")"
added=185 gone=0 touched=()

# change N: what is new before release N; in the way of a publisher, who renames new files into their places.
change() {
  local i image
  touched=()
  for ((i = 0; i < 4; i++)); do
    noise $((added + 100)) $((20000 + added * 997 % 180000)) >"$tree/pool/package-$added.deb"
    rm "$tree/pool/package-$gone.deb"
    touched+=("pool/package-$added.deb")
    added=$((added + 1)) gone=$((gone + 1))
  done
  image=images/image-$(($1 % 5)).iso
  { noise $((100000 + $1)) 100000; tail -c +100001 "$tree/$image"; } >"$work/new"
  mv "$work/new" "$tree/$image"
  for i in 1 2 3; do
    { echo "release $1"; noise $((200000 + $1 * 3 + i)) 150000; } >"$work/new"
    mv "$work/new" "$tree/dists/index-$i"
  done
  touched+=("$image" dists/index-{1,2,3})
  for i in "${touched[@]}"; do linked_bytes=$((linked_bytes + $(stat -c %s "$tree/$i"))); done
}

# --- the nodes: a cache with less room than the tree has, one behind limits, which holds for loopback too, and some that anybody can read from

common=(--no-mdns --no-port-mapping --dashboard 127.0.0.1:0)
readable=(--gateway 127.0.0.1:0)
cache_disk=30 limited_disk=$((60 + 4 * minutes * 60 / every)) # MB: what is replaced stays for a day, and counts
free_port
publish master "$tree" "$work/master" "$port" --name endurance "${common[@]}" "${readable[@]}"
wait_published master
new_bytes=$(published master new_bytes) # of all releases so far: what is replaced stays for a day
linked_bytes=$(tree_bytes "$tree")      # the master keeps whole files that are replaced, by links
mirrors=(m1 m2 m3 m4 m5 m6 m7 cache limited)
nodes=(master "${mirrors[@]}")
gateways=(master m1 m2 cache limited)
declare -A flags=(
  [cache]="--cache-only --disk ${cache_disk}MB"
  [limited]="--lan none --upload 20Mbit --download 50Mbit --monthly 100GB --disk ${limited_disk}MB"
)
declare -A metrics gateway
for n in "${mirrors[@]}"; do
  free_port
  read -r -a own <<<"${flags[$n]:-}"
  [[ " ${gateways[*]} " != *" $n "* ]] || own+=("${readable[@]}")
  join "$n" "$work/$n" "$port" "$address" "${common[@]}" "${own[@]}"
done
for n in "${nodes[@]}"; do
  until_true 120 "$n answers" status "$work/$n" .dashboard
  metrics[$n]=$(status "$work/$n" .dashboard)metrics
done
for n in "${gateways[@]}"; do gateway[$n]=$(status "$work/$n" .gateway.local); done
start follower "$SWARMNODE" status --follow --json --home "$work/m1" # somebody who watches

# --- what is written down

# measured NAME: one metric from the scrape of a node; 0 where it has none.
measured() { awk -v m="$1" '$1 == m || index($1, m "{") == 1 { n = $2 } END { printf "%.0f", n }' "$work/scrape"; }

# of_kernel FIELD PID: what the kernel says of the memory of a process.
of_kernel() { awk -v f="$1:" '$1 == f { print $2 * 1024 }' "/proc/$2/status"; }

echo "seconds,node,rss,anonymous,heap,live,goroutines,descriptors,home,bound,bookkeeping,release,peers,connections" >"$out/samples.csv"
# sample_all: one line for each node. home is what the directory takes on the disk, bookkeeping what of it is not content; live is the heap
# that the last collection left (half of where the next one is due).
sample_all() {
  local n p t bound disk
  t=$((SECONDS - began_at))
  for n in "${nodes[@]}"; do
    p=${pid[$n]}
    curl -sS --max-time 20 -o "$work/scrape" "${metrics[$n]}" || { step "$n: no metrics"; continue; }
    bound=$((new_bytes + new_bytes / 10 + (16 << 20)))
    [[ $n != master ]] || bound=$((linked_bytes + linked_bytes / 10 + (16 << 20)))
    disk=${n}_disk
    [[ -z ${!disk:-} ]] || bound=$((${!disk} * 1000000))
    printf '%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s\n' "$t" "$n" \
      "$(of_kernel VmRSS "$p")" "$(of_kernel RssAnon "$p")" \
      "$(measured go_memstats_heap_inuse_bytes)" $(($(measured go_memstats_next_gc_bytes) / 2)) "$(measured go_goroutines)" \
      "$(find "/proc/$p/fd" -mindepth 1 | wc -l)" "$(du -sB1 "$work/$n" | cut -f1)" "$bound" \
      "$(find "$work/$n" -type f -not -path '*/segments/*' -not -path '*/links/*' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')" \
      "$(measured swarmnode_collection_release)" $(($(measured swarmnode_inbound_peers) + $(measured swarmnode_outbound_peers))) \
      "$(measured swarmnode_gateway_connections)"
  done >>"$out/samples.csv"
}

release_of() { curl -sS --max-time 10 -o "$work/scrape" "${metrics[$1]}" && measured swarmnode_collection_release; }

# --- an ordinary client

wrong=0 right=0 unanswered=0
# read_from NODE PATH...: over one connection; each has to be what the tree has. The tree rests, and the node serves the newest release.
read_from() {
  local n=$1 f args=()
  shift
  for f in "$@"; do args+=(-o "$work/got/${f//\//_}" "${gateway[$n]}endurance/$f"); done
  rm -rf "$work/got"
  mkdir "$work/got"
  curl -sSf --max-time 120 "${args[@]}" 2>>"$work/logs/client.err" || true
  for f in "$@"; do
    if [[ ! -e $work/got/${f//\//_} ]]; then
      unanswered=$((unanswered + 1))
    elif cmp -s "$work/got/${f//\//_}" "$tree/$f"; then
      right=$((right + 1))
    else
      wrong=$((wrong + 1))
      step "WRONG: $f from $n at release $release"
    fi
  done
}

# some N: paths of packages that the tree has now.
some() {
  local i
  for ((i = 0; i < $1; i++)); do echo "pool/package-$((gone + RANDOM % (added - gone))).deb"; done
}

# browse NODE: what a browser, apt and a TUF client ask for beside the files.
browse() {
  local u
  for u in '' '?json' endurance/ 'endurance/pool/?json' 'endurance/?mirrorlist' endurance/images/image-1.iso.{sha256,torrent,meta4} \
    endurance/dists/index-1.metalink -/endurance/metadata/timestamp.json -/status.json -/health endurance/no-such-file; do
    curl -sS --max-time 60 -o "$work/page" "${gateway[$1]}$u" 2>>"$work/logs/client.err" || unanswered=$((unanswered + 1))
  done
}

visit_all() {
  local n
  for n in "${gateways[@]}"; do
    [[ ${has[$n]:-0} == "$release" ]] || continue
    # shellcheck disable=SC2046 # one path each, without spaces
    read_from "$n" $(some 6)
    browse "$n"
  done
}

# --- releases

echo "seconds,release,node,after,announced_to_complete" >"$out/releases.csv"
declare -A has
late=0 unpublished=0 releases=1

# spread: waits until all mirrors serve the release, at most until a tenth before the next is due, and writes down how long each took.
spread() {
  local t end n missing
  t=$(seconds) end=$((SECONDS + every * 9 / 10))
  while :; do
    missing=0
    for n in "${mirrors[@]}"; do
      [[ ${has[$n]:-0} != "$release" ]] || continue
      has[$n]=$(release_of "$n" || echo 0)
      [[ ${has[$n]} == "$release" ]] || { missing=1; continue; }
      echo "$((SECONDS - began_at)),$release,$n,$(since "$t"),$(awk '/^swarmnode_collection_announced_to_complete_seconds/ { n = $2 } END { print n + 0 }' "$work/scrape")" >>"$out/releases.csv"
    done
    ((missing && SECONDS < end)) || break
    sleep 0.2
  done
  for n in "${mirrors[@]}"; do
    [[ ${has[$n]:-0} == "$release" ]] || { late=$((late + 1)); step "late: $n has release ${has[$n]:-0} and not $release"; }
  done
}

next_release() {
  change $((release + 1))
  run again $((every < 60 ? 60 : every)) "$SWARMNODE" publish "$tree" --name endurance --home "$work/master" --json
  ((status == 0)) || { unpublished=$((unpublished + 1)); return 0; }
  release=$(published again release)
  new_bytes=$((new_bytes + $(published again new_bytes)))
  releases=$((releases + 1)) has[master]=$release
  spread
  local n
  for n in "${gateways[@]}"; do
    if [[ ${has[$n]} == "$release" ]]; then read_from "$n" "${touched[@]}"; fi
  done
}

has[master]=$release began_at=$SECONDS
spread
step "all have release $release"
began_at=$SECONDS
over=$((began_at + minutes * 60)) next_sample=$SECONDS next_due=$((SECONDS + every))
while ((SECONDS < over)); do
  for n in "${nodes[@]}"; do running "$n" || die "$n has ended"; done
  if ((SECONDS >= next_sample)); then
    next_sample=$((next_sample + sample))
    sample_all
    visit_all
  fi
  if ((SECONDS >= next_due)); then
    next_due=$((next_due + every))
    next_release
  fi
  sleep 0.5
done
sample_all

# --- the verdict

every_complete() {
  local n
  for n in "${mirrors[@]}"; do [[ $n == cache ]] || complete "$work/$n" "$id" "$release" || { echo "$n"; return 1; }; done
}

step "$releases releases, $(mib "$new_bytes") published in all; of gateways: $right files right, $wrong wrong, $unanswered not answered"
check "every release was published" test "$unpublished" = 0
check "every mirror had every release before the next" test "$late" = 0
check "no file that came from a gateway was wrong" test "$wrong" = 0
check "at most 1 in 100 was not answered in time" test $((unanswered * 100)) -le $((right + unanswered))
check "the last release is whole everywhere" every_complete
for n in "${nodes[@]}"; do
  stop TERM "$n" 60
  check "$n stops well" test "$status" = 0
  check "$n: no stack trace" no_trace "$n"
done
result=0
"$work/judge" "$out/samples.csv" "$out/releases.csv" >"$out/table.txt" 2>&1 || result=$?
cat "$out/table.txt"
if ((minutes >= 60)); then
  check "memory, goroutines and descriptors are flat, the disk is bounded" test "$result" = 0
else
  check "there is a verdict on each node" test "$(grep -c ' home ' "$out/table.txt")" = "${#nodes[@]}"
fi
{
  cat "$out/table.txt"
  echo "$releases releases, every $every s for $minutes min; of gateways $right files right, $wrong wrong, $unanswered not answered; $late late"
  echo "endurance: $passed passed, $failed failed, at $(date -u +%FT%TZ)"
} >"$out/verdict.txt"
finish
