package p2p

import (
	"bytes"
	"errors"
	"testing"

	"swarmnode/content"
)

// A length beyond the limit is refused although the bytes are there.
func TestFramesAreLimited(t *testing.T) {
	if b, err := readFrame(bytes.NewReader([]byte{0, 0, 0, 3, 'a', 'b', 'c'}), 3); err != nil || string(b) != "abc" {
		t.Errorf("a request at the limit: %q, %v", b, err)
	}
	if _, err := readFrame(bytes.NewReader([]byte{0, 0, 0, 3, 'a', 'b', 'c'}), 2); !errors.Is(err, content.ErrFormat) {
		t.Errorf("a request above the limit: %v, want ErrFormat", err)
	}
	head := []byte{byte(statusOK), 0, 0, 0, 3}
	if st, n, err := readPart(bytes.NewReader(head), 3); st != statusOK || n != 3 || err != nil {
		t.Errorf("a part at the limit: %d, %d, %v", st, n, err)
	}
	if _, _, err := readPart(bytes.NewReader(head), 2); !errors.Is(err, ErrBadAnswer) {
		t.Errorf("a part above the limit: %v, want ErrBadAnswer", err)
	}
}
