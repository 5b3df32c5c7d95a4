#!/usr/bin/env bash
# Takes one guard after the other out of the program (content/guard, build tag "broken") and fails unless its tests notice.
# Each line of the table: guard, package, tests that must fail without it. With "-v" what the tests say is printed, too; further
# arguments are the only guards to try.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/swarmnode-guards.XXXXXX")
trap 'rm -rf "$work"' EXIT

verbose=
[[ ${1:-} != -v ]] || { verbose=1; shift; }

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
data-sync           content/store    TestDiskFull$|TestDiskSurvivesKills
data-loss           content/store    TestDiskFull$
pack-loss           content/store    TestPackFull
journal-sync        content/store    TestDiskFull$
journal-sum         content/store    TestDiskTornJournal|FuzzOpenJournal
budget              content/store    TestDiskBudget
path-parts          content          TestTreeRefusals|TestTargets
path-control        content          TestTreeRefusals|TestTargets
target-absolute     content          TestTargets
target-outside      content          TestTargets
format-limit        content          TestLimitsAlone
one-encoding        content          TestStrict
chunk-limit         content          TestLimitsAlone
root-pin            gossip/trust     TestVerifyRefuses|TestRefreshPinsTheID
signature           gossip/trust     TestVerifyRefuses
root-expiry         gossip/trust     TestVerifyRefuses|TestClockFloor
expiry              gossip/trust     TestVerifyRefuses|TestClockFloor
timestamp-rollback  gossip/trust     TestVerifyRefuses
release-rollback    gossip/trust     TestVerifyRefuses
timestamp-fork      gossip/trust     TestVerifyRefuses
file-fork           gossip/trust     TestNeedTellsAFork
release-fork        gossip/trust     TestVerifyRefuses
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
claim-peer          gossip/topic     TestClaims
pulls-at-once       gossip/topic     TestPullsOfOnePeerAreLimited
pull-limit          gossip/topic     TestAnswersThatLie
one-seal            gossip/topic     TestOpenMemberRefusesEveryChangedByte|TestSealMemberRefuses
ban                 node/policy      TestTransferCompletes|TestPeersBan|TestTransferScripts/wrong
block-hash          node/p2p         TestHostileAnswers|TestBlocks
outline-hash        node/p2p         TestHostileOutline
request-limit       node/p2p         TestFramesAreLimited
answer-limit        node/p2p         TestFramesAreLimited
chunk-size          node/p2p         TestHostileAnswers
run-limit           node/p2p         TestHostileRequests|TestChunksBadRequest
run-bytes           node/p2p         TestChunksBadRequest
answer-end          node/p2p         TestHostileAnswers
peer-streams        node/p2p         TestBusy
grace               node/mirror      TestCleanKeepsWhatIsNeeded
export-hash         node/export      TestPutRefuses
socket-mode         node/control     TestRoundTrip
socket-directory    node/control     TestLongHome
TABLE
}

# Every guard that is declared has a line, and every line a guard.
diff <(sed -n 's/^\t[A-Z][A-Za-z]* *Name = "\(.*\)".*/\1/p' content/guard/guard.go | sort) <(table | cut -d ' ' -f 1 | sort -u) ||
  { echo "the guards of content/guard and the table above differ (<: no line, >: no guard)"; exit 1; }

bad=0 count=0
for package in $(table | awk '{ print $2 }' | uniq); do
  binary=$work/${package//\//-}.test
  go test -c -tags broken -o "$binary" "./$package"
  # Sanity: with nothing broken all of them pass.
  all=$(table | awk -v p="$package" '$2 == p { print $3 }' | sort -u | paste -s -d '|')
  if (($# == 0)) && ! (cd "$package" && SWARMNODE_BROKEN='' timeout 100 "$binary" -test.short -test.run "^($all)" >"$work/log" 2>&1); then
    echo "$package fails with no guard broken:"
    tail -30 "$work/log"
    bad=$((bad + 1))
    continue
  fi
  while read -r guard _ tests; do
    (($# == 0)) || [[ " $* " == *" $guard "* ]] || continue
    count=$((count + 1))
    verdict=caught
    # Where a test waits for what never comes the limit of time ends it, which is a failure as well.
    if (cd "$package" && SWARMNODE_BROKEN=$guard timeout 60 "$binary" -test.short -test.failfast -test.timeout 20s -test.run "^($tests)" >"$work/log" 2>&1); then
      bad=$((bad + 1)) verdict='NOT CAUGHT'
    fi
    by=$(grep -oE '^\s*--- FAIL: [^ ]+' "$work/log" | head -1 | sed 's/.*: //' || true)
    printf '%-20s %-16s %-11s %s\n' "$guard" "$package" "$verdict" "${by:-$(grep -m 1 -oE '^panic: .{0,60}' "$work/log" || true)}"
    [[ -z $verbose ]] || cat "$work/log"
  done < <(table | awk -v p="$package" '$2 == p')
done
echo "$count guards, $bad not caught"
((bad == 0))
