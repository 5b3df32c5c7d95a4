package p2p

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func FuzzBansFile(f *testing.F) {
	f.Add([]byte(`[{"peer":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","what":"x","count":3,"until":"2100-01-01T00:00:00Z"}]`))
	f.Add([]byte(`[{"peer":""},null]`))
	path := filepath.Join(f.TempDir(), "bans.json")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		o := newOffenders(path, slog.New(slog.DiscardHandler))
		if o.load(now0) != nil {
			return
		}
		for id, e := range o.list {
			if !e.Until.After(now0) || e.Until.After(now0.Add(maxBan)) || id.Validate() != nil {
				t.Errorf("%s: %+v", id, e)
			}
		}
		if len(o.list) > maxOffenders {
			t.Errorf("%d bans, at most %d", len(o.list), maxOffenders)
		}
		before := len(o.list)
		if err := o.save(now0); err != nil {
			return // a year that JSON has no text for was cut to maxBan, but the last offence's is as it came
		}
		again := newOffenders(path, o.log)
		if err := again.load(now0.Add(-time.Second)); err != nil || len(again.list) != before {
			t.Errorf("%d bans are read again as %d, %v", before, len(again.list), err)
		}
	})
}
