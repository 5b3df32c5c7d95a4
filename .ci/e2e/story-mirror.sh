#!/usr/bin/env bash
# The first journey on a real archive: one master, three mirrors, the master killed, a late joiner, a second release.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-mirror
archive

cp -a --reflink=auto "$E2E_CACHE/v1" "$work/tree"
total=$(tree_bytes "$work/tree")
free_port; master_port=$port
declare -A ports addresses
for m in m1 m2 m3 late; do free_port; ports[$m]=$port; done

start_master() { publish master "$work/tree" "$work/master" "$master_port" --name archive; }
start_mirror() { join "$1" "$work/$1" "${ports[$1]}" "$2" "${@:3}"; }

# alone MIRROR: only this one is up, so what `get` brings comes from it.
alone() {
  local m
  for m in m1 m2 m3 late; do
    if [[ $m != "$1" ]] && running "$m"; then stop TERM "$m"; fi
  done
  running "$1" || start_mirror "$1" "${addresses[$1]}" --collection "$id"
  until_true 30 "$1 answers" address_of "$work/$1"
}

# every_mirror_exact WHAT MIRROR...: what each alone gives is the published tree.
every_mirror_exact() {
  local what=$1 m
  shift
  for m in "$@"; do
    alone "$m"
    rm -rf "$work/out"
    check "$what: get from $m alone" got "get-$m" "$id" "$work/out" "${addresses[$m]}"
    check "$what: what $m gives is byte-exact" same_tree "$work/tree" "$work/out"
    rm -rf "$work/get-get-$m"
  done
}

# --- first release, three mirrors
t=$(seconds)
start_master
wait_published master
step "published $(mib "$total") as release $release of $id in $(since "$t") s"
check "the first release is all new" at_most "$(published master new_bytes)" "$total"
for m in m1 m2 m3; do start_mirror "$m" "$address"; done
for m in m1 m2 m3; do
  until_true 180 "$m complete" complete "$work/$m" "$id" "$release"
  addresses[$m]=$(address_of "$work/$m")
  step "$m complete $(since "$t") s after publish began, $(mib "$(of "$work/$m" "$id" received_bytes)") received, $(mib "$(of "$work/$m" "$id" wasted_bytes)") wasted"
  check "$m wastes at most 2 %" at_most "$(of "$work/$m" "$id" wasted_bytes)" $((total / 50))
done

# --- the master dies, a late joiner knows one mirror and the ID
stop KILL master
t=$(seconds)
start_mirror late "${addresses[m1]}" --collection "$id"
until_true 180 "the late joiner complete" complete "$work/late" "$id" "$release"
addresses[late]=$(address_of "$work/late")
step "the late joiner complete after $(since "$t") s, the master dead"
check "ls lists the top of the tree" grep -q pool <(list_tree "$id" "${addresses[m1]}")
every_mirror_exact "release $release" m1 m2 m3 late
check "verify finds the tree right" verify_tree "$work/out" "$id" "${addresses[late]}"
printf x | dd of="$work/out/heavy/disk.img" bs=1 seek=300000000 conv=notrunc status=none
check "verify finds one changed byte" not verify_tree "$work/out" "$id" "${addresses[late]}"
deb=$(cd "$work/tree" && find pool -name '*.deb' | sort | sed -n 1p)
check "get of one file" got get-file "$id/$deb" "$work/one" "${addresses[late]}"
check "that file is right" cmp "$work/tree/$deb" "$(find "$work/one" -type f | head -1)"
stop TERM late
check "a mirror that is told to stop exits with 0" test "$status" = 0

# --- second release, while the first `publish` runs
start_master
wait_published master
first=$release
for m in m1 m2 m3; do
  running "$m" && stop TERM "$m"
  start_mirror "$m" "$address"
done
for m in m1 m2 m3; do until_true 60 "$m up again and complete" complete "$work/$m" "$id" "$first"; done
declare -A before
for m in m1 m2 m3; do before[$m]=$(of "$work/$m" "$id" received_bytes); done
apply "$E2E_CACHE/v2" "$work/tree"
t=$(seconds)
run second 180 "$SWARMNODE" publish "$work/tree" --home "$work/master" --name archive --json
check "a second publish hands over and exits with 0" test "$status" = 0
release=$(published second release)
new=$(published second new_bytes)
check "its release number is greater" test "$release" -gt "$first"
for m in m1 m2 m3; do
  until_true 180 "$m complete with release $release" complete "$work/$m" "$id" "$release"
done
step "second release: $(mib "$new") of $(mib "$(tree_bytes "$work/tree")") are new, on three mirrors $(since "$t") s after publish began"
check "chunking finds at least 90 % of the second release in the first" at_most "$new" $((total / 10))
for m in m1 m2 m3; do
  moved=$(($(of "$work/$m" "$id" received_bytes) - before[$m]))
  step "figure: $m moved $(mib "$moved"), $(ratio "$moved" "$new") of the new bytes; announced to complete in $(of "$work/$m" "$id" announced_to_complete_seconds) s"
  check "$m moves at most 1.1 of what chunking leaves" at_most "$moved" "$((new * 11 / 10))"
done
stop KILL master
every_mirror_exact "release $release" m1 m2 m3
for m in m1 m2 m3 master second; do check "no stack trace from $m" no_trace "$m"; done
finish
