package publish

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSnapshot gives the bytes a right checksum, too: otherwise nothing behind it is ever reached.
func FuzzSnapshot(f *testing.F) {
	path := filepath.Join(f.TempDir(), "snapshot")
	trailer := make([]byte, snapshotTrailer-4)
	f.Add([]byte(snapshotMagic + "\x00" + string(trailer)))
	f.Add([]byte(snapshotMagic + "\x01\x00\x03a/b\x02\x04\x06\x08\x0a\x00" + string(trailer)))
	f.Add([]byte(snapshotMagic + "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00" + string(trailer)))
	f.Fuzz(func(t *testing.T, body []byte) {
		data := binary.BigEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := openSnapshot(path)
		if err != nil {
			return
		}
		n := 0
		for _, err := range s.records() {
			if err != nil {
				return
			}
			if n++; n > len(body) {
				t.Fatalf("more than %d records in %d bytes", n, len(body))
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	path := filepath.Join(f.TempDir(), historyName)
	f.Add([]byte(`{"version":1,"release":2,"manifest":"00","replaced":[{"release":1,"manifest":"00","at":"2020-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"version":1,"replaced":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		h, err := readHistory(path)
		if err != nil {
			return
		}
		if h.Version != historyVersion {
			t.Errorf("%q has version %d", raw, h.Version)
		}
		text, err := json.Marshal(h)
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, err := readHistory(path); err != nil || again.Release != h.Release || len(again.Replaced) != len(h.Replaced) {
			t.Errorf("%+v is read again as %+v, %v", h, again, err)
		}
	})
}
