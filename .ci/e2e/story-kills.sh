#!/usr/bin/env bash
# A mirror is killed again and again (KILLS times, default 40) while it fetches, takes in new releases and scrubs. What it had
# acknowledged is there each time, nothing on its disk is damaged, and at the end it has the newest release to the byte.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-kills
kills=${KILLS:-40}
seed=${SEED:-$RANDOM}
step "seed $seed (SEED), $kills kills (KILLS)"
RANDOM=$seed

mkdir "$work/tree"
change() { # change N: a new large file, a changed one, one fewer
  local j
  head -c $((24 << 20)) /dev/urandom >"$work/tree/image-$(($1 / 2 % 4)).iso"
  for j in {1..40}; do echo "$1 $j $seed" >"$work/tree/note-$(((j * 7 + $1) % 200)).txt"; done
  rm -f "$work/tree/note-$(($1 * 3 % 200)).txt"
}
change 0
free_port; publish master "$work/tree" "$work/master" "$port" --name killed
wait_published master
free_port; join other "$work/other" "$port" "$address"
free_port; victim_port=$port
victim() { of "$work/victim" "$id" "$1"; }
start_victim() {
  join victim "$work/victim" "$victim_port" "$address"
  until_true 30 "the victim answers" status "$work/victim" '.collections | length > 0'
}
pause() { sleep "$(awk -v r="$RANDOM" -v max="$1" 'BEGIN { printf "%.3f", r / 32768 * max }')"; }

acknowledged() { jq -e '.release // 0' "$work/victim/collections/$id/mirror.json" 2>/dev/null || echo 0; }

served=0 lost=0 bad=0 scrubs=0 midway=0 starting=0 released=1
for ((i = 1; i <= kills; i++)); do
  if ((i % 12 == 0)); then # and the first release, all over
    rm -rf "$work/victim"
    served=0
  fi
  if ((RANDOM % 4 == 0)); then # while it starts
    join victim "$work/victim" "$victim_port" "$address"
    starting=$((starting + 1))
    pause 0.4
  else
    start_victim
    now=$(victim release) || now=0 # a release that is acknowledged is served at once, from the disk alone
    ((now >= served)) || { lost=$((lost + 1)); step "kill $i: release $served had been served, now $now"; }
    if ((RANDOM % 3 == 0)); then
      timeout 10 "$SWARMNODE" scrub --home "$work/victim" --rate 200MB >>"$work/logs/scrub.out" 2>&1 && scrubs=$((scrubs + 1))
    fi
    if ((i % 2 == 0)); then
      change "$i"
      run again 60 "$SWARMNODE" publish "$work/tree" --home "$work/master" --name killed --json
      ((status == 0)) || die "release before kill $i was not published"
      released=$(published again release)
    fi
    pause 0.2
  fi
  stop KILL victim
  now=$(acknowledged)
  ((now >= served)) || { lost=$((lost + 1)); step "kill $i: release $served was served, then $now"; }
  served=$now
  ((served == released)) || midway=$((midway + 1))
  if ((i % 3 == 0)) && [[ -d $work/victim/collections/$id ]]; then
    run offline 60 "$SWARMNODE" scrub --home "$work/victim" --rate 2GB --json
    found=$(jq .scrub.bad "$work/logs/offline.out") || found=none
    [[ $status = 0 && $found = 0 ]] || { bad=$((bad + 1)); step "kill $i: the stopped store: status $status, $found damaged"; }
  fi
done
step "figure: $kills kills, $midway of them before the release was complete, $starting in the first moments, $scrubs after a scrub had begun, $released releases"
check "some kills came in the middle of a release" test "$midway" -gt 0
check "no release that was served is lost" test "$lost" = 0
check "nothing in the stopped store is damaged" test "$bad" = 0
start_victim
until_true 120 "the victim complete" complete "$work/victim" "$id" "$released"
run scrub 60 "$SWARMNODE" scrub --home "$work/victim" --rate 1GB --wait --json
check "the last scrub finds nothing" test "$status:$(jq -c '.scrub | [.bad, .missing]' "$work/logs/scrub.out")" = "0:[0,0]"
check "get from it" got exact "$id" "$work/out" "$(address_of "$work/victim")"
check "byte-exact" same_tree "$work/tree" "$work/out"
# GossipSub's library says by itself when the machine was too busy for it.
grep -Ei '^[0-9:]+ (error|warning): |swarmnode: |damaged' "$work/logs/victim.err" | grep -v 'warning: slow heartbeat' >"$work/logs/unexpected.out" || true
step "warnings: $(sort "$work/logs/unexpected.out" | cut -c10-100 | uniq -c | head -5)"
check "nothing in its log that a kill does not explain" not test -s "$work/logs/unexpected.out"
for n in master other victim; do check "no stack trace from $n" no_trace "$n"; done
finish
