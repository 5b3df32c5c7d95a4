package topic

import (
	"bytes"
	"errors"
	"testing"

	"swarmnode/content"
	"swarmnode/gossip"
)

func FuzzPullRequest(f *testing.F) {
	f.Add(content.Encode(pullRequest{Want: wantFile, Name: "timestamp.json", Max: 100}))
	f.Add(content.Encode(pullRequest{Want: wantClaims, Max: 1 << 63}))
	f.Add(content.Encode(pullRequest{Want: wantFile, Name: "../root.key"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req pullRequest
		if err := content.Decode(raw, maxRequest, &req); err != nil {
			if !errors.Is(err, content.ErrFormat) {
				t.Errorf("error without a cause: %v", err)
			}
			return
		}
		if !bytes.Equal(content.Encode(req), raw) {
			t.Errorf("%x is not encoded again as it was", raw)
		}
		p := &pullServer{
			files: func(_ content.ID, name string) ([]byte, error) {
				if name == "" || len(name) > MaxPullName || bytes.ContainsAny([]byte(name), "/\\\x00") || name == ".." {
					t.Errorf("the file %q is asked for", name)
				}
				return []byte{1}, nil
			},
			claims: func() []gossip.Claim { return nil },
		}
		p.find(req)
	})
}
