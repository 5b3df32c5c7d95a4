package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmnode/gossip/trust"
	"swarmnode/node/control"
)

// stolenHome is a copy of a home, as a thief would make it, whose signer goes on from release 1000 with huge versions.
func stolenHome(t *testing.T, home string) string {
	t.Helper()
	to := copyHome(t, home)
	if err := os.Remove(filepath.Join(to, "node.key")); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(to, collectionsDir, "*", "signer", "signer.json"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	m["Release"] = json.RawMessage("999")
	for _, role := range []string{"Timestamp", "Snapshot", "Delegated"} {
		m[role] = json.RawMessage("1000000000000000")
	}
	if raw, err = json.Marshal(m); err == nil {
		err = os.WriteFile(found[0], raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// rotateOnline replaces the keys of all online roles of a home whose node does not run.
func rotateOnline(t *testing.T, home string) {
	t.Helper()
	r, err := OpenKeyRing(home, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	req, err := r.Signer.Rotate(time.Now(), trust.Change{Role: "snapshot"}, trust.Change{Role: "timestamp"}, trust.Change{Role: "release"})
	if err != nil || req != nil {
		t.Fatal(req, err)
	}
}

// TestTheft: a thief has all online keys and signs release 1000 with huge versions, and the mirrors take it. The owner rotates the
// keys and publishes, and the mirrors come back: if his node was off all the time, if it heard of the theft, and if the mirrors
// have learned of the new root first, so that they cannot prove the number any more.
func TestTheft(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"off", "heard", "late"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir, evil, home := tree(t, "good"), tree(t, "good"), t.TempDir()
			owner := startNode(t, "owner", home)
			first := owner.publish(t, dir)
			m := startNode(t, "mirror", t.TempDir())
			if _, err := m.Join(t.Context(), owner.Addrs()[0], nil); err != nil {
				t.Fatal(err)
			}
			waitFor(t, first.ID, 1, m)
			owner.halt()
			stolen := stolenHome(t, home)
			if how == "heard" {
				owner = startNode(t, "owner", home, m.Addrs()[0])
			}
			write(t, evil, "file", "evil")
			thief := startNode(t, "thief", stolen, m.Addrs()[0])
			res, err := thief.publishAs(control.PublishRequest{Dir: evil, Name: "test", Move: true})
			if err != nil || res.Release < 999 {
				t.Fatalf("thief: %+v, %v", res, err)
			}
			waitFor(t, first.ID, res.Release, m)
			if how == "heard" {
				within(t, "the owner's node hears of it", func() bool { return owner.collection(first.ID).trust.Head().Release == res.Release })
				if _, err := owner.publishAs(control.PublishRequest{Dir: dir, Name: "test"}); err == nil {
					t.Error("the owner's node signs beside the thief's")
				}
				owner.halt()
			}
			thief.halt()
			rotateOnline(t, home)
			if how == "late" {
				ring, err := OpenKeyRing(home, "test")
				if err != nil {
					t.Fatal(err)
				}
				if err := m.collection(first.ID).trust.Refresh(t.Context(), time.Now(), ring.Signer.Source); err == nil {
					t.Error("the old signature is good under the new root")
				}
				ring.Close()
			}
			owner = startNode(t, "owner again", home, m.Addrs()[0])
			owner.patience = hang
			req := control.PublishRequest{Dir: dir, Name: "test"}
			if how == "late" {
				c := owner.collection(first.ID)
				within(t, "the mirror says what it serves", func() bool {
					return c.overtaken(time.Now()) != nil
				})
			}
			back, err := owner.publishAs(req)
			if how == "off" && err == nil && back.Unchanged { // the mirror asked first, and has not said yet what it serves
				within(t, "the mirror says what it serves", func() bool { return owner.collection(first.ID).overtaken(time.Now()) != nil })
				req.Above = res.Release
				back, err = owner.publishAs(req)
			}
			if err != nil && strings.Contains(err.Error(), "--above") && how != "heard" { // "off": the mirror asked first, once in many runs
				req.Above = res.Release
				back, err = owner.publishAs(req)
			} else if how == "late" {
				t.Errorf("the owner is not asked: %+v, %v", back, err)
			}
			if err != nil || back.Release <= res.Release || back.Unchanged {
				t.Fatalf("owner: %+v, %v", back, err)
			}
			waitFor(t, first.ID, back.Release, m)
			if st := m.Status(); strings.Contains(st.Verdict, "alarm") {
				t.Errorf("the mirror's status: %s", st.Verdict)
			}
		})
	}
}
