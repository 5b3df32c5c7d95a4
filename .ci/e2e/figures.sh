#!/usr/bin/env bash
# The figures of the design's section 8 that this part of the project answers for: measured beside what they are
# compared with, in one run, printed with their commands. A figure is never a failure here: machines differ.
#
# FIGURES_SMALL=1 takes a quarter of the bytes. mktorrent is needed; ipfs is used when it is there.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story figures

large=$((1 << 30)) files=20000
if [[ ${FIGURES_SMALL:-} == 1 ]]; then large=$((256 << 20)); fi
small=$((large / files))
tree=$work/tree
free_port; master_port=$port
free_port; mirror_port=$port

rows=()
# row WHAT MEASURED REACH COMMAND
row() { rows+=("$(printf '%-34s %-42s %-26s %s' "$@")"); }

step "making one file of $(mib $large) and $files of $small bytes"
mkdir -p "$tree/large"
noise() { openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv "$1" </dev/zero 2>/dev/null | head -c "$2" || true; }
noise 01 "$large" >"$tree/large/image.bin"
noise 02 "$((files * small))" >"$work/smalls"
split -a 5 -d -b "$small" "$work/smalls" "$work/small."
for ((i = 0; i < files; i += 1000)); do
  mkdir -p "$tree/pool/$i"
  find "$work" -maxdepth 1 -name "$(printf 'small.%02d*' $((i / 1000)))" -exec mv -t "$tree/pool/$i" {} +
done
rm "$work/smalls"
cat "$tree/large/image.bin" "$tree"/pool/*/* | wc -c >/dev/null # everybody reads from memory

# timed COMMAND...: prints seconds; its output goes to the logs
timed() {
  local t
  t=$(seconds)
  "$@" >"$work/logs/timed.out" 2>&1 || die "$* did not work"
  since "$t"
}

# publish_seconds NAME HOME [FLAG...]: until the release is told; the process goes on
publish_seconds() {
  local t
  t=$(seconds)
  publish "$1" "$tree" "$2" "$master_port" --name figures "${@:3}"
  until_true 300 "published" published "$1" id
  took=$(since "$t")
  wait_published "$1"
}

# --- publish and re-publish
torrent=$(timed mktorrent -l 20 -t 1 -o "$work/tree.torrent" "$tree")
torrent2=$(timed mktorrent -l 20 -t 2 -o "$work/tree2.torrent" "$tree")
publish_seconds master "$work/master"
peak=$(awk '/VmHWM/ { print $2 / 1024 }' "/proc/${pid[master]}/status")
row "publish $(mib $((2 * large))), no copy" "$took s; mktorrent $torrent2 s (2 threads), $torrent s (1): $(ratio "$took" "$torrent2")x" \
  "at most 1.6x (CDC)" "swarmnode publish; mktorrent -l 20 -t 2"
row "publish, memory" "RSS $peak MiB at its highest" "under 150 MiB" "VmHWM of the publishing process"
if command -v ipfs >/dev/null; then
  export IPFS_PATH=$work/ipfs
  ipfs init >"$work/logs/ipfs.out" 2>&1
  added=$(timed ipfs add -r -Q --offline "$tree")
  row "ipfs add of the same" "$added s: $(ratio "$added" "$took")x of publish" "at least 5x" "ipfs add -r --offline"
fi
stop INT master
listed=$(timed find "$tree" -ls)
publish_seconds master "$work/master"
started=$took
t=$(seconds)
run again 120 "$SWARMNODE" publish "$tree" --home "$work/master" --name figures --json
took=$(since "$t")
((status == 0)) || die "publishing again did not work"
row "publish again, nothing changed" "$took s beside a running master, $started s with its start; find -ls $listed s: $(ratio "$took" "$listed")x" \
  "at most 1.5x" "swarmnode publish (again); find -ls"

# --- join to first chunk, idle memory of a mirror
t=$(seconds)
join mirror "$work/mirror" "$mirror_port" "$address"
until_true 60 "the first chunk" holds_some "$work/mirror" "$id" 0
row "join to first chunk" "$(since "$t") s" "at most 2 s" "join until status counts bytes here"
until_true 300 "the mirror complete" complete "$work/mirror" "$id" "$release"
row "join to complete" "$(since "$t") s" "-" "join until status says complete"
stop TERM mirror
join mirror "$work/mirror" "$mirror_port" "$address"
until_true 60 "the mirror up again" complete "$work/mirror" "$id" "$release"
sleep 15
idle=$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/${pid[mirror]}/status")
row "idle mirror of $(mib $((2 * large)))" "RSS $idle MiB 15 s after its start" "at most 60 MiB" "VmRSS of the joined process"
stop TERM mirror
stop TERM master

# --- Go benchmarks
bench() { # bench WHAT REACH PACKAGE PATTERN
  local line
  (cd "$root" && go test -run '^$' -bench "$4" -benchtime 1x "$3") >"$work/logs/bench.out" 2>&1 || { row "$1" "the benchmark failed" "$2" "go test -bench $4 $3"; return; }
  grep '^Benchmark' "$work/logs/bench.out" >"$work/logs/bench.lines" || { row "$1" "no such benchmark" "$2" "go test -bench $4 $3"; return; }
  while IFS= read -r line; do
    row "$1" "$(tr -s '\t ' ' ' <<<"${line#Benchmark}")" "$2" "go test -run '^\$' -bench $4 -benchtime 1x $3"
  done <"$work/logs/bench.lines"
}
bench "update of 200 files in 2 million" "64 KB, under 2 s" ./content 'Update200'
bench "idle mirror of 100,000 files, 100 GB" "at most 60 MiB" ./node 'IdleMirror'
bench "announcement to 50 nodes" "p99 at most 1 s" ./gossip/topic 'Announce'

printf '\n%-34s %-42s %-26s %s\n' "figure" "measured" "to reach" "command"
printf '%s\n' "${rows[@]}"
printf '\n'
check "every figure was measured" not grep -Eq 'no such benchmark|benchmark failed' <<<"${rows[*]}"
finish
