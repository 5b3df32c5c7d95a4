package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// Only what looks like a setting is told; what is one, or is for the tests and for others, is not.
func TestMistyped(t *testing.T) {
	a := &app{stdout: io.Discard, console: newConsole(io.Discard), env: os.LookupEnv}
	environ := []string{
		"SWARMNODE_UPLOAD=5Mbit", "SWARMNODE_JOIN__DISK=5GB", "SWARMNODE_KEYS__INIT__THRESHOLD=2", "SWARMNODE_HOME=/x", "SWARMNODE_CONFIG=none", "SWARMNODE_LOG_LEVEL=warn",
		"SWARMNODE_E2E=1", "SWARMNODE_TEST_CLOCK=5h", "SWARMNODE_TEST_SOCKET=x", "SWARMNODE_BROKEN=x", "SWARMNODE_BENCH_MIB=5", "SWARMNODE_BENCH_DIR=/x",
		"SWARMNODE_SERVICE_HOST=10.0.0.1", "SWARMNODE_UPLAOD=", "UPLAOD=5Mbit", "SWARMNODE=/usr/bin/swarmnode", "SWARMNODE_=x",
	}
	if got := mistyped(a.rootCommand(), environ); len(got) > 0 {
		t.Errorf("got %q, want nothing", got)
	}
	got := mistyped(a.rootCommand(), []string{"SWARMNODE_UPLAOD=5Mbit", "SWARMNODE_JOIN_DISK=5GB", "SWARMNODE_MONTLY=2TB"})
	for i, want := range []string{"SWARMNODE_JOIN__DISK?", "SWARMNODE_MONTHLY?", "SWARMNODE_UPLOAD?"} {
		if !slices.ContainsFunc(got, func(note string) bool { return strings.HasSuffix(note, "did you mean "+want) }) || len(got) != 3 {
			t.Errorf("%d: got %q, want one that means %s", i, got, want)
		}
	}
}
