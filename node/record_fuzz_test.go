package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
)

func FuzzRecord(f *testing.F) {
	home, r := f.TempDir(), record{Version: recordVersion, ID: content.NewID([]byte("root")), Name: "debian"}
	if err := r.write(home); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(r.dir(home), recordFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"version":1,"id":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		n := &Node{cfg: Config{Home: home}, log: slog.New(slog.DiscardHandler), broken: map[string]broken{}}
		list, err := n.readRecords()
		if err != nil || len(list)+len(n.broken) != 1 {
			t.Fatalf("%d records, %d broken, %v", len(list), len(n.broken), err)
		}
		if len(list) == 1 && (list[0].ID != r.ID || list[0].Version != recordVersion) {
			t.Errorf("%q is read as %+v", raw, list[0])
		}
	})
}
