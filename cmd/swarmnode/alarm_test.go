package main

import (
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/node/control"
)

func TestAlarmAdvice(t *testing.T) {
	id := content.ID{1}
	for _, c := range []struct {
		published bool
		want      []string
	}{
		{true, []string{"keys rotate snapshot timestamp release --name deb", "keys acknowledge " + id.String()}},
		{false, []string{"ask the publisher", "keys acknowledge " + id.String()}},
	} {
		got := alarmAdvice(control.Collection{ID: id, Name: "deb", Published: c.published})
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("published %v: %q does not say %q", c.published, got, want)
			}
		}
	}
}
