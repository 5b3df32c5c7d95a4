package trust

import (
	"bytes"
	"errors"
	"testing"

	"swarmnode/gossip"
)

func FuzzVerify(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	signed := map[string]bool{}
	for _, b := range []gossip.Bundle{p.sign(start, 2, "two"), p.heartbeat(start)} {
		raw, err := gossip.EncodeBundle(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, b.Files[timestampFile])
		signed[string(b.Files[timestampFile])] = true
	}
	f.Add([]byte{}, []byte(`{"signatures":[{"keyid":"a","sig":"00"}],"signed":{"_type":"timestamp","meta":{"snapshot.json":null},"version":9}}`))
	f.Fuzz(func(t *testing.T, raw, timestamp []byte) {
		bundles := []gossip.Bundle{{Files: map[string][]byte{timestampFile: timestamp}}}
		if b, err := gossip.DecodeBundle(raw); err == nil {
			bundles = append(bundles, b)
		}
		for _, b := range bundles {
			// Not Verify, which would change the state and make runs differ.
			if _, err := r.verify(start, r.Head(), b.Files); err != nil {
				continue
			}
			if !signed[string(b.Files[timestampFile])] {
				t.Fatalf("accepted what was never signed: %q", b.Files[timestampFile])
			}
		}
		if n := r.Stats().Panics; n != 0 {
			t.Fatalf("%d panics on what nobody signed: %q %q", n, raw, timestamp)
		}
	})
}

func FuzzVerifyClaim(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	good := p.signer.Claim("12D3KooWpeer", start)
	raw, err := gossip.EncodeClaims([]gossip.Claim{good})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, err := gossip.DecodeClaims(data)
		if err != nil {
			if !errors.Is(err, gossip.ErrMalformed) {
				t.Fatalf("DecodeClaims = %v, want ErrMalformed", err)
			}
			return
		}
		for _, c := range claims {
			if err := r.VerifyClaim(start, c); err == nil && !bytes.Equal(c.SignedBytes(), good.SignedBytes()) {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}

// BenchmarkReplay is the cost of what a flood of old messages makes us do; it should stay under 50 us.
func BenchmarkReplay(b *testing.B) {
	p := newPublisher(b, Lifetimes{})
	old := p.sign(start, 1, "one")
	same := p.sign(start, 2, "two")
	r := p.joined(start)
	for name, bundle := range map[string]gossip.Bundle{"equal": same, "old": old} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Verify(start, bundle); !errors.Is(err, gossip.ErrOld) {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("stranger", func(b *testing.B) {
		q := newPublisher(b, Lifetimes{})
		q.sign(start, 1, "one")
		for range 4 {
			q.heartbeat(start)
		}
		foreign := q.heartbeat(start)
		for b.Loop() {
			if _, err := r.Verify(start, foreign); !errors.Is(err, gossip.ErrBadSignature) {
				b.Fatal(err)
			}
		}
	})
}
