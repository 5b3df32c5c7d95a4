package node

import (
	"strings"
	"testing"

	"swarmnode/content"
)

// A publisher who calls his collection by the ID of another is not meant where that ID is said; nor is either of two of one name.
func TestNamed(t *testing.T) {
	n := &Node{collections: map[content.ID]*collection{}}
	add := func(text string, name string) content.ID {
		id := content.ID(content.Sum([]byte(text)))
		n.collections[id] = &collection{id: id, record: record{ID: id, Name: name}}
		return id
	}
	debian := add("debian", "debian")
	add("thief", debian.String())
	add("a", "twice")
	add("b", "twice")
	for _, name := range []string{debian.String(), "debian"} {
		if c, r, err := n.named(name); err != nil || c == nil || c.id != debian || r.ID != debian {
			t.Errorf("%s: got %v, %v, want the one that has the ID", name, r.ID, err)
		}
	}
	for name, want := range map[string]string{"twice": "2 collections here are called twice", "nosuch": "no collection nosuch is here"} {
		if c, _, err := n.named(name); c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		if err := n.Acknowledge(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("acknowledge %s: got %v, want %s", name, err, want)
		}
	}
}
