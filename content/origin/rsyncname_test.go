package origin

import (
	"bufio"
	"bytes"
	"testing"

	"swarmnode/content"
)

// A name may be wholly the beginning of the one before it: "empty" after "empty directory". One that is nothing at all is not.
func TestRsyncSameName(t *testing.T) {
	last := rsyncFile{name: "empty directory", mode: content.ModeFile | 0o644, mtime: 5}
	read := func(same byte) (rsyncFile, error) {
		b := append([]byte{same, 0}, 7, 0, 0, 0) // shared, more, size
		w := &rsyncWire{in: bufio.NewReader(bytes.NewReader(b))}
		return readRsyncFile(w, rsyncSameName|rsyncSameTime|rsyncSameMode, last)
	}
	if f, err := read(5); err != nil || f.name != "empty" || f.size != 7 || f.mtime != 5 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, same := range []byte{0, 16} {
		if f, err := read(same); err == nil {
			t.Errorf("a name that shares %d of 15 bytes: %+v", same, f)
		}
	}
}
