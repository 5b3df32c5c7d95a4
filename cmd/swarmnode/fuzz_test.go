package main

import (
	"testing"

	"swarmnode/content"
)

func FuzzTarget(f *testing.F) {
	f.Add(content.NewID(nil).String() + "/iso/disc1.iso")
	f.Add(content.NewID(nil).String() + "/../a")
	f.Add("/")
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parseTarget(s); err == nil {
			if at.path != "" && content.CheckPath(at.path) != nil {
				t.Errorf("%q has the path %q", s, at.path)
			}
			if again, err := parseTarget(at.String()); err != nil || again != at {
				t.Errorf("%q is read as %+v and again as %+v, %v", s, at, again, err)
			}
		}
		addrIP(s)
		if len(quote(s)) < len(s) {
			t.Errorf("quote(%q) is shorter", s)
		}
	})
}
