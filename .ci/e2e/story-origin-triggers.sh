#!/usr/bin/env bash
# A change at an origin is served by every mirror: by HTTP, FTP, SFTP, rsync and from a directory here, by an interval, a signed webhook, `publish --now`,
# SIGHUP and a watched directory, each in seconds. Then what goes wrong with triggers: replayed and forged calls, calls during
# a run, a master killed in the middle of a fetch or asked to stop there.
#
# ORIGINS="http ftp" are the rows of the table; all by default, and http is always one.
# shellcheck disable=SC2154,SC2034,SC2016 # what origins.sh sets and uses; a pattern with a dollar
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-triggers
unset http_proxy https_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy
for part in origins origins-http origins-ftp origins-ssh; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done

read -r -a rows <<<"${ORIGINS:-http ftp sftp rsync directory copied}"
mirrors=(m1 m2 m3)
declare -A url=() base=() changed=() # of each row, what is published; of each mirror, its gateway; how often each row was changed
large_bytes=$((64 << 20))
limit=30 # seconds that a change may take; a figure is printed, and this is when somebody has to look

# --- the origins ------------------------------------------------------------------------------------------------------------

# site DIR: a few hundred files; what is heavy is at the HTTP origin only.
site() {
  local d
  for d in {10..29}; do
    mkdir -p "$1/docs/$d"
    noise "$d" 60000 | (cd "$1/docs/$d" && split -a 2 -d -b 4000 - page-)
  done
  echo "index 0" >"$1/index"
  find "$1" -type f -exec touch -d '-2 days' {} +
  chmod -R a+rX "$1"
}

origins() {
  local r
  for r in "${rows[@]}"; do site "$work/site/$r"; done
  mkdir "$work/site/http/large"
  noise 90 "$large_bytes" >"$work/site/http/large/image.iso"
  chmod -R a+rX "$work/site"
  serve_http nginx "$work/site/http"; url[http]=$origin_url
  serve_ftp vsftpd "$work/site/ftp"; url[ftp]=$origin_url
  serve_ssh sftp "$work/site/sftp"; url[sftp]=$origin_url
  serve_ssh rsyncd "$work/site/rsync"; url[rsync]=$origin_url
  url[copied]=$work/site/copied
  openssl rand -hex 32 >"$work/secret" # as the README says
}

# follow ROW [FLAG...]: the running master follows it, or does so in another way from now on; it has looked when this ends.
follow() {
  local r=$1 what=()
  shift
  case $r in
    directory) what=("$work/site/$r") ;;
    copied) what=(--from "${url[$r]}") ;;
    sftp) what=(--from "${url[$r]}" --ssh-key "$work/user_key" --known-hosts "$work/known_hosts") ;;
    *) what=(--from "${url[$r]}") ;;
  esac
  [[ $r == directory ]] || what+=(--from-private --contact story@example.org)
  followed=("$SWARMNODE" publish "${what[@]}" --name "$r" --home "$work/master" --webhook "127.0.0.1:$hook_port" --webhook-secret-file "$work/secret" --json "$@")
}
told_to_follow() {
  follow "$@"
  run "follow-$1" 60 "${followed[@]}"
  ((status == 0)) || { tail -3 "$work/logs/follow-$1.err"; return 1; }
}

# start_master [FLAG...]: it publishes the HTTP origin, and goes on with all the others.
start_master() {
  rm -f "$work/logs/master.out"
  follow http "$@"
  start master "${followed[@]}" --listen "/ip4/127.0.0.1/tcp/$master_port" --gateway "127.0.0.1:$gateway_port" --access-log "$work/access.log"
}

# --- change and see ---------------------------------------------------------------------------------------------------------

# change ROW: an index is replaced, a page is new and one is gone. No packages: gateways serve those that are gone for another day.
change() {
  local r=$1 n
  n=$((${changed[$r]:-0} + 1))
  changed[$r]=$n
  mkdir -p "$work/site/$r/new"
  echo "page $n" >"$work/site/$r/new/page-$n"
  rm "$work/site/$r/docs/$((9 + n))/page-03"
  echo "index $n of $r" >"$work/site/$r/index.new"
  mv "$work/site/$r/index.new" "$work/site/$r/index"
}

# everywhere ROW: every mirror's gateway serves the change, each on a new connection. It is one process, as many would be what is measured.
everywhere() {
  local r=$1 n=${changed[$1]} m urls=() want=''
  for m in "${mirrors[@]}"; do
    urls+=(-o - "${base[$m]}$r/index" -o - "${base[$m]}$r/new/page-$n" -o /dev/null "${base[$m]}$r/docs/$((9 + n))/page-03")
    want+=$'index '"$n of $r"$'\n200\n'"page $n"$'\n200\n404\n'
  done
  [[ "$(curl -s --max-time 10 -w '%{http_code}\n' "${urls[@]}" || true)"$'\n' == "$want" ]]
}

# served COLUMN BEGAN ROW...: waits until every mirror serves the changes, and writes what that took into files of the table.
served() {
  local column=$1 began=$2 end=$((SECONDS + limit)) r left
  shift 2
  while (($# > 0 && SECONDS < end)); do
    left=()
    for r; do
      if everywhere "$r"; then since "$began" >"$work/table/$r-$column"; else left+=("$r"); fi
    done
    set -- ${left[@]+"${left[@]}"}
    sleep 0.02
  done
  for r; do echo none >"$work/table/$r-$column"; done
}
cell() { cat "$work/table/$1-$2" 2>/dev/null || echo -; }
in_time() { [[ $(cell "$1" "$2") != none ]]; }

runs_of() { status "$work/master" ".collections[] | select(.name == \"$1\") | .origin.runs"; }
resting() { status "$work/master" ".collections | all(.origin.running | not)"; }
rest() { until_true 30 "the master rests" resting; }
ran() { (($(runs_of "$1") >= $2)); }

# hook ROW [SECONDS-AGO] [SECRET]: calls a webhook as the README says; prints the status code. The call stays in $called, to be made again.
hook() {
  local T B S
  T=$(($(date +%s) - ${2:-0}))
  B='{"n":'$((hooks = ${hooks:-0} + 1))$RANDOM'}'
  S=$(printf '%s.%s' "$T" "$B" | openssl dgst -sha256 -hmac "$(cat "${3:-$work/secret}")" | sed 's/.* //')
  called=(-d "$B" -H "X-Swarmnode-Signature: t=$T,v1=$S" "http://127.0.0.1:$hook_port/$1")
  call
}
call() { curl -s -o "$work/logs/hook.answer" -w '%{http_code}\n' "${called[@]}"; }
answered() { # answered CODE COMMAND...
  local want=$1 got
  shift
  got=$("$@")
  [[ $got == "$want" ]] || { echo "got $got"; cat "$work/logs/hook.answer"; return 1; }
}

# by_trigger COLUMN ROW... -- COMMAND...: changes at one or several origins, and one trigger.
by_trigger() {
  local column=$1 r t list=()
  shift
  while [[ $1 != -- ]]; do list+=("$1"); shift; done
  shift
  rest
  for r in "${list[@]}"; do change "$r"; done
  t=$(seconds)
  "$@" >"$work/logs/$column.out" 2>&1 || echo "$column: status $?"
  served "$column" "$t" "${list[@]}"
  for r in "${list[@]}"; do check "$r, $column: $(cell "$r" "$column") s until every mirror serves the change" in_time "$r" "$column"; done
}

publish_now() { "$SWARMNODE" publish --now "$1" --home "$work/master"; }

# --- the parts --------------------------------------------------------------------------------------------------------------

begin() {
  local r m
  free_port; master_port=$port
  free_port; gateway_port=$port
  free_port; hook_port=$port
  start_master --every 1h
  wait_published master 60
  for r in "${rows[@]}"; do
    [[ $r == http ]] || told_to_follow "$r" --every 1h || die "$r is not followed"
  done
  for m in "${mirrors[@]}"; do
    free_port; base[$m]=http://127.0.0.1:$port/
    local listen=$port
    free_port
    start "$m" "$SWARMNODE" join --bootstrap "$address" --home "$work/$m" --listen "/ip4/127.0.0.1/tcp/$port" --gateway "127.0.0.1:$listen"
  done
  for m in "${mirrors[@]}"; do until_true 60 "$m is complete" all_complete "$work/$m"; done
  step "a master follows ${#rows[@]} origins, ${#mirrors[@]} mirrors have all of it"
}
all_complete() { status "$1" "(.collections | length) == ${#rows[@]} and all(.collections[]; .complete)"; }

urgencies() {
  local r
  for r in "${rows[@]}"; do by_trigger now "$r" -- publish_now "$r"; done
  for r in "${rows[@]}"; do by_trigger webhook "$r" -- hook "$r"; done
  mv "$work/access.log" "$work/access.log.1"
  by_trigger SIGHUP "${rows[@]}" -- signal HUP master
  curl -s -o "$work/logs/page" "http://127.0.0.1:$gateway_port/"
  until_true 5 "a line in the new access log" test -s "$work/access.log"
  check "the same SIGHUP had the access log opened again" grep -q 'GET / ' "$work/access.log"
  for r in "${rows[@]}"; do told_to_follow "$r" --every 5s || die "$r: --every 5s"; done
  by_trigger interval "${rows[@]}" -- true
  for r in "${rows[@]}"; do
    case $r in
      directory | copied) told_to_follow "$r" --every 1h --watch || die "$r: --watch" ;;
      *) told_to_follow "$r" --every 1h || die "$r: --every 1h" ;;
    esac
  done
  for r in "${rows[@]}"; do
    case $r in directory | copied) by_trigger watch "$r" -- true ;; esac
  done
}

table() {
  local r c
  {
    printf 'change at the origin -> served by %d mirrors, seconds\n%-10s' "${#mirrors[@]}" origin
    for c in interval webhook now SIGHUP watch; do printf ' %9s' "$c"; done
    for r in "${rows[@]}"; do
      printf '\n%-10s' "$r"
      for c in interval webhook now SIGHUP watch; do printf ' %9s' "$(cell "$r" "$c")"; done
    done
    echo
  } | tee "$work/logs/table"
}

refusals() {
  local before
  openssl rand -hex 32 >"$work/other-secret"
  rest
  before=$(runs_of http)
  check "a call with another secret is refused: 401" answered 401 hook http 0 "$work/other-secret"
  check "one signed ten minutes ago: 401" answered 401 hook http 600
  check "one signed for in ten minutes: 401" answered 401 hook http -600
  check "one without a signature: 401" answered 401 curl -s -o "$work/logs/hook.answer" -w '%{http_code}\n' -d '{}' "http://127.0.0.1:$hook_port/http"
  check "one for what is not published: 404" answered 404 hook nothing
  check "one that is no POST: 405" answered 405 curl -s -o "$work/logs/hook.answer" -w '%{http_code}\n' "http://127.0.0.1:$hook_port/http"
  hook http >"$work/logs/hook.code"
  check "one that is right: 202" grep -qx 202 "$work/logs/hook.code"
  check "the same again: 401" answered 401 call
  rest
  check "all of that made one look" test "$(runs_of http)" = $((before + 1))
}

# replaced N: another large file at the HTTP origin.
replaced() {
  replace "$work/site/http/large/image.iso" "9$1" "$large_bytes"
  chmod a+r "$work/site/http/large/image.iso"
  touch -d "-$1 hours" "$work/site/http/large/image.iso" # no listing vouches for what is seconds old, nor tells two of one minute apart
}

# answered_as_readme: what the README says to copy, with our address and name in it.
answered_as_readme() {
  (cd "$work" && sed -n '/^T=\$(date/,/^curl/p' "$root/README.md" | sed "s/MASTER:9000/127.0.0.1:$hook_port/; s/NAME/http/" | timeout 20 bash) | tee "$work/logs/readme"
  jq -e .state "$work/logs/readme"
}

# during: calls that come in the middle of a run make one more, whatever they are and however many.
during() {
  local before bytes r
  told_to_follow http --every 1h --rate 64Mbit || die "http: --rate"
  replaced 1
  before=$(runs_of http) bytes=$(from_origin)
  check "a call begins a run" answered 202 hook http
  until_true 20 "the run is in the middle of the large file" come $((bytes + large_bytes / 8))
  check "the two lines of the README call it in the middle of that" answered_as_readme
  for r in 1 2; do check "call $r in the middle of it" answered 202 hook http; done
  check "which says that it runs" grep -q running "$work/logs/hook.answer"
  signal HUP master
  start now-1 "$SWARMNODE" publish --now http --home "$work/master"
  start now-2 "$SWARMNODE" publish --now http --home "$work/master"
  check "status tells how far it is" status "$work/master" \
    ".collections[] | select(.name == \"http\") | .origin | .running and (.progress | .phase == \"fetch\" and .done > 0 and .total >= $large_bytes and .files_total > 0)"
  check "it is the same run" test "$(runs_of http)" = "$before"
  reap now-1
  reap now-2
  rest
  check "three calls, SIGHUP and two who wait made one more" test "$(runs_of http)" = $((before + 2))
  check "both were told" grep -q 'Nothing has changed: http' "$work/logs/now-1.out" "$work/logs/now-2.out"
}

# cut_off: the master is killed in the middle of a fetch, and another time asked to stop there.
cut_off() {
  local bytes came t took
  # What has come is put on the disk every 5 s, and so slowly the file takes 13 s.
  told_to_follow http --every 1h --rate 40Mbit || die "http: --rate"
  look_at_another 2
  until_true 30 "a quarter of the large file has come" come $((bytes + large_bytes / 4))
  until_true 30 "what has come is on the disk" kept_more 500
  check "the release is not there yet" not published_by_master "$release"
  stop KILL master
  came=$(($(from_origin) - bytes))
  start_master --every 1h --rate 160Mbit
  until_true 60 "the large file is published" published_by_master "$release"
  step "figure: killed after $(mib "$came") of $(mib "$large_bytes"), $(mib $(($(from_origin) - bytes))) came over the wire in all"
  check "after a kill what was on the disk was not fetched again" at_most $(($(from_origin) - bytes)) $((large_bytes * 105 / 100 + came - large_bytes / 4))

  rest
  look_at_another 3
  until_true 30 "half of the large file has come" come $((bytes + large_bytes / 2))
  check "the release is not there yet" not published_by_master "$release"
  t=$(seconds)
  stop INT master 20
  took=$(since "$t")
  check "asked to stop in the middle of a fetch it has ended within 5 s: $took s" at_most "$took" 5
  check "in order" test "$status" = 0
  start_master --every 1h
  until_true 60 "the large file is published" published_by_master "$release"
  step "figure: stopped on the way, $(mib $(($(from_origin) - bytes))) came over the wire in all"
  check "nothing of it was fetched again" at_most $(($(from_origin) - bytes)) $((large_bytes * 110 / 100 + (4 << 20)))
  check "a mirror serves the large file" until_true 30 "the large file at a mirror" same_image m1
}
look_at_another() { # look_at_another N: another large file, and a look at it begins; sets release and bytes to what was before
  release=$(of "$work/master" "$id" release)
  replaced "$1"
  bytes=$(from_origin)
  logs_of_arrivals >"$work/logs/kept"
  check "a call begins a run" answered 202 hook http
}
# The logs of what arrives are written when it is on the disk, with more than 32 bytes for each chunk. Those of an earlier file may go meanwhile.
logs_of_arrivals() { find "$work/master/collections" -path '*/arrivals/*.log' -printf '%s %p\n'; }
# kept_more BYTES: one of them has grown by so many since look_at_another.
kept_more() { logs_of_arrivals | awk -v more="$1" 'NR == FNR { had[$2] = $1; next } $1 - had[$2] >= more { found = 1 } END { exit !found }' "$work/logs/kept" -; }
published_by_master() { local r; r=$(of "$work/master" "$id" release) && ((r > $1)); }
same_image() { cmp "$work/site/http/large/image.iso" <(curl -s --max-time 20 "${base[$1]}http/large/image.iso"); }

mkdir "$work/table"
far_up
origins
begin
urgencies
refusals
during
cut_off
check "no stack trace" no_trace master
table
finish
