package durable

import (
	"bytes"
	"encoding/json"
	"testing"
)

// TestSeal flips every bit of a sealed object: it is damaged, or means the same as before, or is no JSON.
func TestSeal(t *testing.T) {
	type object struct {
		Version int    `json:"version"`
		Name    string `json:"name"`
	}
	want := object{1, "seven"}
	raw, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sealed := Seal(raw)
	if got, err := Unseal(sealed); err != nil || !bytes.Equal(got, raw) || !json.Valid(sealed) {
		t.Fatalf("got %q, %v, want %q", got, err, raw)
	}
	if got, err := Unseal(raw); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("without a seal: %q, %v", got, err)
	}
	for bit := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		body, err := Unseal(flipped)
		var got object
		if err == nil && json.Unmarshal(body, &got) == nil && got != want {
			t.Errorf("bit %d: %q is taken for %+v", bit, flipped, got)
		}
	}
}
