#!/usr/bin/env bash
# Takes one guard after the other out of the program (content/guard, build tag "broken") and fails unless its tests notice:
# bash .ci/e2e/guards.sh [-v] [GUARD...]
#
# Each line of the table: guard, package, tests of which one must fail without it. A panic and a limit of time that ran out
# are no tests that noticed. With "-v" what the tests say is printed, too; further arguments are the only guards to try.
# Environment: SWARMNODE (the ordinary binary, else it is built).
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/swarmnode-guards.XXXXXX")
trap 'rm -rf "$work"' EXIT

verbose=
[[ ${1:-} != -v ]] || { verbose=1; shift; }
[[ ${1:-} != -* ]] || { sed -n '2,7s/^# \?//p' "$0"; exit 2; }

table() {
  cat <<'TABLE'
file-sync           content/durable  TestWriteOrder
name-sync           content/durable  TestWriteOrder
put-hash            content/store    TestDiskContract
read-hash           content/store    TestDiskContract
adopt-hash          content/store    TestDiskAdoptsOnlyWhatIsRight
reference-hash      content/store    TestReferencesContract
pack-hash           content/store    TestPackTornAndDamaged
table-digest        content/store    TestDiskAddChecksTheTable
data-sync           content/store    TestDiskPowerCut
store-name-sync     content/store    TestDiskPowerCut
data-loss           content/store    TestDiskFull$
pack-loss           content/store    TestPackFull
pack-sync           content/store    TestPackPowerCut
journal-sync        content/store    TestDiskPowerCut
journal-sum         content/store    TestDiskTornJournal|FuzzOpenJournal
punch-order         content/store    TestPunchPowerCut
budget              content/store    TestDiskBudget
path-parts          content          TestTreeRefusals|TestTargets
path-control        content          TestTreeRefusals|TestTargets
target-absolute     content          TestTargets
target-outside      content          TestTargets
format-limit        content          TestLimitsAlone
one-encoding        content          TestStrict
chunk-limit         content          TestLimitsAlone
root-pin            gossip/trust     TestVerifyRefuses|TestRefreshPinsTheID
threshold           gossip/trust     TestOneKeyOfTwo
signature           gossip/trust     TestVerifyRefuses
root-expiry         gossip/trust     TestVerifyRefuses|TestClockFloor
expiry              gossip/trust     TestVerifyRefuses|TestClockFloor
timestamp-rollback  gossip/trust     TestVerifyRefuses
release-rollback    gossip/trust     TestVerifyRefuses
timestamp-fork      gossip/trust     TestVerifyRefuses
file-fork           gossip/trust     TestNeedTellsAFork
release-fork        gossip/trust     TestVerifyRefuses
leap                gossip/trust     TestReleaseLeaps
file-digest         gossip/trust     TestNeedTellsAFork
manifest-digest     gossip/trust     TestTargetNamesTheManifest
one-signed-form     gossip/trust     TestVerifyRefuses|TestFlippedBits
file-limit          gossip/trust     TestPeekLimitsTheSize
signature-limit     gossip/trust     TestVerifyRefuses
clock-floor         gossip/trust     TestClockFloor
clock-kept          gossip/trust     TestClockFloor
timestamp-last      gossip/trust     TestRepositoryCrash
claim-signature     gossip/trust     TestClaims
claim-expiry        gossip/trust     TestClaims
claim-life          gossip/trust     TestClaims
inbox-fork          gossip           TestInboxVerdicts
inbox-rollback      gossip           TestInboxVerdicts
pull-rate           gossip           TestInboxLimitsPulls
bundle-limit        gossip           TestBundleLimits
claim-peer          gossip/topic     TestClaims
pulls-at-once       gossip/topic     TestPullsOfOnePeerAreLimited
pull-limit          gossip/topic     TestAnswersThatLie
one-seal            gossip/topic     TestOpenMemberRefusesEveryChangedByte|TestSealMemberRefuses
ban                 node/policy      TestTransferScripts
block-hash          node/p2p         TestHostileAnswers|TestBlocks
outline-hash        node/p2p         TestHostileOutline
request-limit       node/p2p         TestFramesAreLimited
answer-limit        node/p2p         TestFramesAreLimited
chunk-size          node/p2p         TestHostileAnswers
run-limit           node/p2p         TestHostileRequests|TestChunksBadRequest
run-bytes           node/p2p         TestChunksBadRequest
answer-end          node/p2p         TestHostileAnswers
peer-streams        node/p2p         TestBusy
bans-kept           node/p2p         TestLiarIsBanned
offence-ban         node/p2p         TestOffendersAreBounded
gater               node/p2p         TestOffendersAreBounded
receive-memory      node/p2p         TestBusy
send-memory         node/p2p         TestBusy
grace               node/mirror      TestCleanKeepsWhatIsNeeded
holdings-rate       node/mirror      TestChangesComeTogether
scrub-rate          node/mirror      TestScrubHoldsItsRate
switch-whole        node/mirror      TestServeWantsAllOfARelease
export-hash         node/export      TestPutRefuses
socket-mode         node/control     TestRoundTrip
socket-user         node/control     TestMayControl
control-limit       node/control     TestLargeRequestsAreRefused
socket-directory    node/control     TestLongHome
TABLE
}

# Every guard that is declared has a line, and every line a guard; and every guard stands somewhere.
declared() { sed -n 's/^\t[A-Z][A-Za-z]* *Name = "\(.*\)".*/\1/p' content/guard/guard.go | sort; }
diff <(declared) <(table | cut -d ' ' -f 1 | sort) ||
  { echo "the guards of content/guard and the table above differ (<: no line, >: no guard or two lines)"; exit 1; }
used=$(sed -n 's/^\t\([A-Z][A-Za-z]*\) *Name = .*/\1/p' content/guard/guard.go)
for name in $used; do
  grep -rqE --include='*.go' --exclude='*_test.go' "guard\.$name\b" . || { echo "guard.$name stands nowhere"; exit 1; }
done

mapfile -t packages < <(table | awk '{ print "./" $2 }' | sort -u)
if (($#)); then
  mapfile -t packages < <(for g in "$@"; do table | awk -v g="$g" '$1 == g { print "./" $2 }'; done | sort -u)
fi
((${#packages[@]})) || { echo "no such guard: $*" >&2; exit 2; }
binary() { echo "$work/${1//\//-}.test"; }
# shellcheck disable=SC2016 # the inner shell expands it
for package in "${packages[@]}"; do printf '%s\0%s\0' "$(binary "${package#./}")" "$package"; done |
  xargs -0 -P 2 -n 2 bash -c 'go test -vet=off -c -tags broken -o "$1" "$2"' build # a linker uses one processor

bad=0
# The ordinary build has no switch. That the broken one has it shows that the search would find it.
ordinary=${SWARMNODE:-$work/swarmnode}
[[ -n ${SWARMNODE:-} ]] || go build -o "$ordinary" ./cmd/swarmnode
grep -aq SWARMNODE_BROKEN "$(binary "${packages[0]#./}")" || { echo "the broken build has no switch"; exit 1; }
if grep -aq SWARMNODE_BROKEN "$ordinary"; then
  echo "the ordinary build has the switch"
  bad=$((bad + 1))
fi

# With nothing broken all tests pass.
whole() {
  (cd "$2" && env -u SWARMNODE_BROKEN "$1" -test.short -test.timeout 300s >"$1.log" 2>&1) || { echo "$2" >>"$work/unbroken"; return 1; }
}
export -f whole
export work
# shellcheck disable=SC2016
if (($# == 0)) && ! for package in "${packages[@]}"; do printf '%s\0%s\0' "$(binary "${package#./}")" "$package"; done |
  xargs -0 -P 2 -n 2 bash -c 'whole "$1" "$2"' whole; then
  echo "fails with no guard broken: $(tr '\n' ' ' <"$work/unbroken")"
  grep -hE -A 10 '^\s*--- FAIL|^FAIL|^panic:' "$work"/*.test.log | tail -60 || true
  bad=$((bad + 1))
fi

# try "GUARD PACKAGE TESTS": one line of the answer, what the tests said in a file.
try() {
  local guard package tests binary log verdict by test began=$SECONDS
  read -r guard package tests <<<"$1"
  log=$work/$guard.log binary=$work/${package//\//-}.test
  if (cd "$package" && SWARMNODE_BROKEN=$guard timeout 200 "$binary" -test.short -test.failfast -test.timeout 150s \
    -test.run "^($tests)" >"$log" 2>&1); then
    verdict='NOT CAUGHT'
  elif grep -q '^panic: test timed out' "$log"; then
    verdict='TIMED OUT'
  elif grep -qE '^(panic|fatal error):' "$log"; then
    verdict=PANICKED
  elif grep -qE '^\s*--- FAIL: ' "$log"; then
    verdict=caught
  else
    verdict='NO VERDICT'
  fi
  # A test that was renamed is a line that no longer says anything.
  for test in ${tests//|/ }; do
    [[ -n $("$binary" -test.list "^$test") ]] || verdict='NO TEST'
  done
  by=$(grep -oE '^\s*--- FAIL: [^ ]+' "$log" | tail -1 | sed 's/.*: //' || true)
  printf '%-20s %-16s %-11s %3d s  %s\n' "$guard" "$package" "$verdict" "$((SECONDS - began))" "$by"
}
export -f try

# Two at a time: most of them wait for something most of the time.
# shellcheck disable=SC2016 # the inner shell expands it
while read -r line; do
  (($# == 0)) || [[ " $* " == *" ${line%% *} "* ]] || continue
  printf '%s\0' "$line"
done < <(table) | xargs -0 -P 2 -I '{}' bash -c 'try "$1"' try '{}' | tee "$work/answers"
[[ -z $verbose ]] || cat "$work"/*.log

count=$(wc -l <"$work/answers")
uncaught=$(grep -cvE ' caught +[0-9]+ s ' "$work/answers" || true)
echo "$count guards, $uncaught not caught, $bad other failures, $SECONDS s"
((count > 0 && uncaught == 0 && bad == 0))
