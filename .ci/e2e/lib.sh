# shellcheck shell=bash
# What the stories share: a place to work in, processes that are surely ended, waiting with a deadline, and in one
# place (the part "what we assume of the program") all that depends on the command line and the JSON of swarmnode.
#
# A story says `story NAME`, then its steps, then `finish`. `check` counts and goes on; `die` ends the story. Both print
# the ends of all logs. Environment: SWARMNODE_E2E=1 to run at all, SWARMNODE (the binary; built when unset),
# E2E_CACHE (downloads and the archive), KEEP=1 (leave the working directory).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export E2E_CACHE=${E2E_CACHE:-${TMPDIR:-/tmp}/swarmnode-e2e-cache}
passed=0 failed=0
mounts=() # every mount that was made
used=" "  # ports handed out
slots=20  # stories side by side, of all checkouts of this machine
declare -A pid # name -> process id

# --- the frame of a story -------------------------------------------------------------------------------------------

story() {
  name=$1
  if [[ ${SWARMNODE_E2E:-} != 1 ]]; then
    echo "--- SKIP: $name: needs SWARMNODE_E2E=1 (Debian packages, root, minutes)"
    exit 0
  fi
  take_slot
  mkdir -p "$E2E_CACHE"
  work=$(mktemp -d "${TMPDIR:-/tmp}/swarmnode-$name.XXXXXX")
  mkdir "$work/logs"
  # A home of its own for whatever is not told one, so that a story never meets the user's node; Go keeps its caches.
  GOPATH=$(go env GOPATH) GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE)
  export GOPATH GOMODCACHE GOCACHE HOME=$work/user XDG_STATE_HOME=$work/user/state XDG_CONFIG_HOME=$work/user/config
  unset SWARMNODE_HOME STATE_DIRECTORY
  export SWARMNODE_DASHBOARD=none # a story that looks at one says where
  mkdir -p "$HOME"
  trap 'ended $?' EXIT
  trap 'exit 130' INT TERM
  if [[ -z ${SWARMNODE:-} ]]; then
    SWARMNODE=$work/swarmnode
    (cd "$root" && go build -o "$SWARMNODE" ./cmd/swarmnode)
  fi
  began=$SECONDS
  echo "=== $name"
}

ended() {
  local status=$1 p m
  trap - EXIT
  set +e
  ((status == 0)) || { echo "$name: ended with status $status"; logs; }
  # The shell's own table of jobs names only processes that this story started and that still run.
  for p in $(jobs -pr); do kill -TERM "$p" 2>/dev/null; kill -CONT "$p" 2>/dev/null; done
  for p in $(jobs -pr); do
    for _ in {1..50}; do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$p" 2>/dev/null
    wait "$p" 2>/dev/null
  done
  for m in "${mounts[@]}"; do umount "$m" 2>/dev/null || umount -l "$m"; done
  if [[ ${KEEP:-} == 1 ]]; then echo "$name: kept $work"; else chmod -R u+rwX "$work" 2>/dev/null; rm -rf "$work"; fi
  exit "$status"
}

finish() {
  step "$((SECONDS - began)) s in all"
  echo "$name: $passed passed, $failed failed"
  exit $((failed > 0))
}

step() { printf '%s [%3d s] %s\n' "$name" "$((SECONDS - began))" "$*"; }

die() {
  echo "FAIL: $name: $*"
  echo "$name: $passed passed, $((failed + 1)) failed"
  exit 1
}

# check TEXT COMMAND...: counts whether the command succeeds, and says so.
check() {
  local text=$1
  shift
  if "$@" >"$work/logs/check.out" 2>&1; then
    passed=$((passed + 1))
    step "ok: $text"
  else
    failed=$((failed + 1))
    echo "FAIL: $name: $text"
    head -c 2000 "$work/logs/check.out"
  fi
}

logs() {
  local f
  for f in "$work"/logs/*; do
    [[ -s $f ]] || continue
    echo "----- ${f##*/}: its last lines"
    tail -n 25 "$f" | cut -c1-400
  done
}

# until_true SECONDS WHAT COMMAND...: polls; a miss ends the story.
until_true() {
  local limit=$1 what=$2 end
  shift 2
  end=$((SECONDS + limit))
  until "$@" >"$work/logs/waiting.out" 2>&1; do
    ((SECONDS < end)) || die "after $limit s still not: $what"
    sleep 0.05
  done
}

not() { ! "$@"; }
seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.2f", b - a }'; }
at_most() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.3f", a / b; else print "none" }'; }
mib() { awk -v a="$1" 'BEGIN { printf "%.1f MiB", a / 1048576 }'; }

# take_slot sets slot to a number that no other running story has, here or of another checkout: its ports and addresses are this story's
# alone, for what is handed out is often used only seconds later. The lock is held until all that the story started has ended.
take_slot() {
  local dir=/tmp/swarmnode-slots-$UID fd
  mkdir -p "$dir"
  for ((slot = 0; slot < slots; slot++)); do
    exec {fd}>"$dir/$slot"
    ! flock -n "$fd" || return 0
    exec {fd}>&-
  done
  echo "$name: $slots stories run already" >&2
  exit 1
}

# free_port sets port to a number of this story's slot that nothing listens on, TCP or UDP, and that was not handed out before. The
# system gives none of them to a connection: they lie below those (ip_local_port_range).
free_port() {
  local hex top first each=$((12000 / slots)) i
  top=$(cut -f 1 /proc/sys/net/ipv4/ip_local_port_range 2>/dev/null || echo 32768)
  ((top >= 14000 && top <= 32000)) || top=32000
  first=$RANDOM
  for ((i = 0; i < each; i++)); do
    port=$((top - (slot + 1) * each + (first + i) % each))
    printf -v hex ':%04X ' "$port"
    if [[ $used != *" $port "* ]] && ! grep -q "$hex" /proc/net/{tcp,udp}{,6} 2>/dev/null; then
      used+="$port "
      return 0
    fi
  done
  die "no port is left of the $each that a story has"
}

# start NAME COMMAND...: runs it in the background; stdout to logs/NAME.out, stderr to logs/NAME.err, both appended. A
# background process of a script has SIGINT ignored; env gives it back.
start() {
  local n=$1
  shift
  env --default-signal=INT "$@" >>"$work/logs/$n.out" 2>>"$work/logs/$n.err" </dev/null &
  pid[$n]=$!
}

running() { kill -0 "${pid[$1]}" 2>/dev/null; }
signal() { kill "-$1" "${pid[$2]}"; }

# stop SIGNAL NAME [SECONDS]: sends it, waits, leaves the exit status in $status (128+n if a signal ended the process).
stop() {
  local limit=${3:-20} end
  kill "-$1" "${pid[$2]}" 2>/dev/null || true
  end=$((SECONDS + limit))
  while [[ $1 != KILL ]] && running "$2"; do # waiting at once for a killed one keeps the shell from reporting it
    ((SECONDS < end)) || die "$2 still runs $limit s after SIG$1"
    sleep 0.05
  done
  reap "$2"
}

# reap NAME: leaves the exit status of a process that has ended in $status.
reap() {
  status=0
  wait "${pid[$1]}" 2>/dev/null || status=$?
}

# run NAME SECONDS COMMAND...: in the foreground, output to the logs, exit status in $status; 124 means too slow.
run() {
  local n=$1 limit=$2
  shift 2
  status=0
  timeout -k 5 "$limit" "$@" >"$work/logs/$n.out" 2>"$work/logs/$n.err" </dev/null || status=$?
}

# What looks for something in what may be long reads files, never a pipe with "grep -q" at its end: who writes into that is killed once
# it is found, which pipefail takes for a failure.

# says NAME PATTERN: the process has printed it.
says() { grep -Eiq -- "$2" "$work/logs/$1.out" "$work/logs/$1.err" 2>/dev/null; }

# no_trace NAME: the process has not shown a stack trace.
no_trace() { ! grep -E '^(panic:|goroutine [0-9]+ |fatal error:|WARNING: DATA RACE)' "$work/logs/$1.out" "$work/logs/$1.err"; }

# --- trees ------------------------------------------------------------------------------------------------------------

archive() {
  "$here/make-archive.sh" "$E2E_CACHE" >"$work/logs/archive.out" 2>&1 || die "the archive could not be made"
  step "$(tail -1 "$work/logs/archive.out")"
}

# apply FROM TO: makes the tree TO like FROM as a user would, with new files beside the old ones, then renamed.
apply() { rsync -a --delete "$1/" "$2/"; }

# listing prints what a comparison of contents does not see: types, permissions, link targets, times of files.
listing() {
  (cd "$1" && find . -mindepth 1 \( -type d -printf '%P %y %m\0' -o -type l -printf '%P %y %l\0' -o -printf '%P %y %m %s %Ts\0' \)) | LC_ALL=C sort -z | tr '\0' '\n'
}

same_tree() {
  diff -r --no-dereference "$1" "$2" && diff <(listing "$1") <(listing "$2") | head -20
}

tree_bytes() { find "$1" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

# small_fs DIR SIZE: mounts an empty file system of that size.
small_fs() {
  mkdir -p "$1"
  mount -t tmpfs -o "size=$2" swarmnode-story "$1" || return 1
  mounts+=("$1")
}

# --- what we assume of the program ------------------------------------------------------------------------------------

# publish NAME DIR HOME PORT [FLAG...]: starts a master, without a gateway unless a flag says so.
publish() {
  local n=$1 dir=$2 h=$3 p=$4
  shift 4
  rm -f "$work/logs/$n.out"
  start "$n" "$SWARMNODE" publish "$dir" --home "$h" --listen "/ip4/127.0.0.1/tcp/$p" --json --gateway none "$@"
}

# published NAME FIELD: of the last release that the process has told.
published() { grep '^{' "$work/logs/$1.out" | jq -r "select(.event == \"published\") | .$2" | tail -1 | grep -v '^null$' | grep .; }

# published_or_ended NAME: succeeds once one of the two is true.
published_or_ended() { published "$1" id || ! running "$1"; }

# wait_published NAME [SECONDS]: sets id, address (with its /p2p/ part) and release.
# shellcheck disable=SC2034 # the stories use them
wait_published() {
  until_true "${2:-180}" "$1 published" published_or_ended "$1"
  running "$1" || published "$1" id >/dev/null || die "$1 ended without publishing"
  id=$(published "$1" id)
  release=$(published "$1" release)
  address=$(published "$1" 'addrs[0]')
}

# join NAME HOME PORT BOOTSTRAP [FLAG...]: starts a mirror, without a gateway unless a flag says so.
join() {
  local n=$1 h=$2 p=$3 b=$4
  shift 4
  start "$n" "$SWARMNODE" join --bootstrap "$b" --home "$h" --listen "/ip4/127.0.0.1/tcp/$p" --gateway none "$@"
}

# status HOME JQ-FILTER: asks the node that runs there.
status() { timeout 10 "$SWARMNODE" status --home "$1" --json 2>"$work/logs/status.err" | jq -er "$2"; }

# of HOME ID FIELD: a field of one collection.
of() { status "$1" ".collections[] | select(.id == \"$2\") | .$3"; }

address_of() { status "$1" '.addrs[0]'; }

# complete HOME ID RELEASE: the node has all of that release (or of a newer one).
complete() { status "$1" ".collections[] | select(.id == \"$2\") | .complete and .release >= $3"; }

# holds_some HOME ID BYTES: more than that is here.
holds_some() { status "$1" ".collections[] | select(.id == \"$2\") | .bytes_here > $3"; }

# get NAME ID[/PATH] OUT BOOTSTRAP [SECONDS]: downloads with a home of its own; $status is its exit status.
get() { run "$1" "${5:-180}" "$SWARMNODE" get "$2" -o "$3" --bootstrap "$4" --home "$work/get-$1"; }

# got NAME ID OUT BOOTSTRAP: the same, as something to check.
got() {
  get "$@"
  ((status == 0)) || { cat "$work/logs/$1.err"; return 1; }
}

verify_tree() { timeout 120 "$SWARMNODE" verify "$1" "$2" --bootstrap "$3" --home "$work/get-verify"; }

list_tree() { timeout 60 "$SWARMNODE" ls "$1" --bootstrap "$2" --home "$work/get-ls"; }
