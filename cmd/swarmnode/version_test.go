package main

import (
	"runtime/debug"
	"testing"
)

func TestCommitOf(t *testing.T) {
	vcs := func(pairs ...string) *debug.BuildInfo {
		info := &debug.BuildInfo{}
		for i := 0; i < len(pairs); i += 2 {
			info.Settings = append(info.Settings, debug.BuildSetting{Key: "vcs." + pairs[i], Value: pairs[i+1]})
		}
		return info
	}
	const commit = "6f13405abcdef0123456789abcdef0123456789a"
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, ""},
		{vcs(), ""},
		{vcs("time", "2026-11-22T23:59:59Z"), ""},
		{vcs("revision", commit, "time", "2026-11-22T23:59:59Z", "modified", "false"), "commit 6f13405abcde of 2026-11-22, "},
		{vcs("revision", commit, "time", "2026-11-22T23:59:59Z", "modified", "true"), "commit 6f13405abcde of 2026-11-22 with changes, "},
		{vcs("revision", "77"), "commit 77, "},
	} {
		if got := commitOf(c.info); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := versionOf(nil); got != "(unknown)" {
		t.Errorf("a build that knows nothing: got %q", got)
	}
	if got, want := versionOf(&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}), "v1.2.3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
