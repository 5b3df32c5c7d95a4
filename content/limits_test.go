package content

import (
	"errors"
	"testing"
)

// Each of these limits stands before others that would find most of what is wrong; here it is the only one.
func TestLimitsAlone(t *testing.T) {
	raw := Encode([]byte("swarm"))
	var b []byte
	if err := Decode(raw, len(raw), &b); err != nil {
		t.Errorf("%d bytes where as many are allowed: %v", len(raw), err)
	}
	if err := Decode(raw, len(raw)-1, &b); !errors.Is(err, ErrFormat) {
		t.Errorf("%d bytes where one less is allowed: %v, want ErrFormat", len(raw), err)
	}
	for _, size := range []uint32{0, MaxChunkSize + 1} {
		if _, err := newTable([]Chunk{{Size: size}}); !errors.Is(err, ErrFormat) {
			t.Errorf("a table with a chunk of %d bytes: %v, want ErrFormat", size, err)
		}
	}
}
