package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/gossip"
)

// panics reports whether f does.
func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// hazards of go-tuf 2.4.2 as the design lists them. Each case first shows the library's own behaviour, so that it fails when
// a newer library has mended it and the guard can go, then that the verifier is not affected. Caps on sizes and counts are in
// TestVerifyRefuses, files cut off by a crash in TestRepositoryCrash, the clock floor in TestClockFloor.
var hazards = map[string]func(*testing.T){
	"null target panics before any signature check": func(t *testing.T) {
		raw := []byte(`{"signatures":[{"keyid":"a","sig":"00"}],"signed":{"_type":"targets","targets":{"a":null},"version":1}}`)
		if !panics(func() { metadata.Targets().FromBytes(raw) }) {
			t.Error("go-tuf does not panic any more")
		}
		if _, err := peek(raw, roleTargets, len(raw)); !errors.Is(err, gossip.ErrMalformed) {
			t.Errorf("peek = %v, want ErrMalformed", err)
		}
	},
	"timestamp without an entry panics when it follows another": func(t *testing.T) {
		s := newStock(t, "")
		old := &workflow{now: start}
		s.check(old.firstRoot(s.files["1.root.json"]))
		s.check(old.takeTimestamp(s.files[timestampFile]))
		s.timestamp.Signed.Version++
		s.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{}
		raw := stockSign(t, s.timestamp, s.keys[roleTimestamp])
		tm := old.steps()
		tm.Timestamp = old.timestamp
		if !panics(func() { tm.UpdateTimestamp(raw) }) {
			t.Error("go-tuf does not panic any more")
		}
		if err := old.takeTimestamp(raw); !errors.Is(err, gossip.ErrMalformed) {
			t.Errorf("takeTimestamp = %v, want ErrMalformed", err)
		}
	},
	"path_hash_prefixes never match": func(t *testing.T) {
		sum := sha256.Sum256([]byte("x"))
		r := metadata.DelegatedRole{PathHashPrefixes: []string{hex.EncodeToString(sum[:2])}}
		if ok, _ := r.IsDelegatedPath("x"); ok {
			t.Error("go-tuf matches them now")
		}
		if !delegates(&r, "x") || delegates(&r, "y") {
			t.Error("delegates does not match the prefix of the hash")
		}
	},
	"one message has valid twins": func(t *testing.T) {
		p := newPublisher(t, Lifetimes{})
		p.sign(start, 1, "one")
		r := p.joined(start)
		good := p.sign(start, 2, "two")
		ts := string(good.Files[timestampFile])
		sig := ts[strings.Index(ts, `"sig":"`)+7:][:128]
		twin := replaced(good, sig, strings.ToUpper(sig))
		m, err := metadata.Timestamp().FromBytes(twin.Files[timestampFile])
		if err != nil || p.keys.root.VerifyDelegate(roleTimestamp, m) != nil {
			t.Errorf("go-tuf refuses the twin now: %v", err)
		}
		if _, err := r.Verify(start, twin); !errors.Is(err, gossip.ErrMalformed) {
			t.Errorf("Verify = %v, want ErrMalformed", err)
		}
	},
	"what is old costs signature checks": func(t *testing.T) {
		p := newPublisher(t, Lifetimes{})
		old := p.sign(start, 1, "one")
		p.sign(start, 2, "two")
		r := p.joined(start)
		ts := string(old.Files[timestampFile])
		sig := ts[strings.Index(ts, `"sig":"`)+7:][:128]
		bad := replaced(old, sig, fmt.Sprintf("%0128d", 0))
		m, err := metadata.Timestamp().FromBytes(bad.Files[timestampFile])
		if err != nil || p.keys.root.VerifyDelegate(roleTimestamp, m) == nil {
			t.Errorf("the signature is not wrong: %v", err)
		}
		if _, err := r.Verify(start, bad); !errors.Is(err, gossip.ErrOld) {
			t.Errorf("Verify = %v, want ErrOld: had it looked at the signature, it would be ErrBadSignature", err)
		}
	},
}

func TestHazards(t *testing.T) {
	t.Parallel()
	for name, run := range hazards {
		t.Run(name, run)
	}
}
