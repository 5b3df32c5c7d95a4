package trust

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// The checks below stand before others of the TUF library; here they are asked alone.

func TestPeekLimitsTheSize(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"signed":{"_type":"root","version":1},"signatures":[{"keyid":"a"}]}`)
	if _, err := peek(raw, roleRoot, len(raw)); err != nil {
		t.Errorf("%d bytes where as many are allowed: %v", len(raw), err)
	}
	if _, err := peek(raw, roleRoot, len(raw)-1); !errors.Is(err, gossip.ErrMalformed) {
		t.Errorf("one byte too many: %v, want ErrMalformed", err)
	}
}

func TestNeedTellsAFork(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("signed"))
	entry := &metadata.MetaFiles{Version: 2, Length: 6, Hashes: metadata.Hashes{"sha256": sum[:]}}
	const name = "2.targets.json"
	w := &walk{have: &trusted{files: map[string][]byte{name: []byte("before")}}, next: trusted{files: map[string][]byte{}},
		bundle: map[string][]byte{}, used: map[string]bool{}}
	if _, _, err := w.need(roleTargets, entry, false); !errors.Is(err, gossip.ErrFork) {
		t.Errorf("other bytes under the version that is here: %v, want ErrFork", err)
	}
	w.have.files = nil
	w.bundle[name] = []byte("forged")
	if _, _, err := w.need(roleTargets, entry, false); err == nil || !strings.Contains(err.Error(), "not the signed one") {
		t.Errorf("a file of the bundle with another hash: %v", err)
	}
}

func TestTargetNamesTheManifest(t *testing.T) {
	t.Parallel()
	digest, other := content.Sum([]byte("manifest")), content.Sum([]byte("another"))
	raw, err := json.Marshal(custom{CID: digest.BlockCID().String(), Name: "debian", Release: 1})
	if err != nil {
		t.Fatal(err)
	}
	facts := json.RawMessage(raw)
	for _, c := range []struct {
		signed content.Digest
		ok     bool
	}{{digest, true}, {other, false}} {
		_, err := readTarget("debian", &metadata.TargetFiles{Hashes: metadata.Hashes{"sha256": c.signed[:]}, Custom: &facts})
		if (err == nil) != c.ok {
			t.Errorf("manifest %s, signed hash %s: %v, want ok %v", digest, c.signed, err, c.ok)
		}
	}
}
