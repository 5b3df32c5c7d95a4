package main

import (
	"testing"

	"swarmnode/content"
	"swarmnode/node/control"
)

// A publisher cannot put a command on somebody's line by the name of a collection.
func TestNameOrID(t *testing.T) {
	c := control.Collection{ID: content.NewID([]byte("root"))}
	for name, want := range map[string]string{
		"debian": "debian", "debian-12.5_x+y": "debian-12.5_x+y",
		"": c.ID.String(), "-rf": c.ID.String(), "$(reboot)": c.ID.String(), "a b": c.ID.String(), "a;b": c.ID.String(), "`x`": c.ID.String(), "a?": c.ID.String(),
	} {
		if got := nameOrID(c, name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
