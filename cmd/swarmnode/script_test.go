package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"swarmnode/node/control"
)

// scriptWait bounds each wait in a script: for what hangs, on the slowest machine under the race detector too.
const scriptWait = 3 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"swarmnode": main})
}

// TestScripts runs testdata/script: separate processes on loopback addresses. Commands of our own: "published HOME" waits until the
// node of a home has published something and sets ID and ADDR; "complete HOME RELEASE" waits until it mirrors all of
// that release and sets ADDR; "caching HOME RELEASE" until it serves that out of a cache; "hears HOME RELEASE" until it knows of that; "answers HOME" until there is a node; all set GATEWAY
// and DASHBOARD to the addresses of these. "appears FILE TEXT" waits until a process in
// the background has written that. "http STATUS URL FILE" makes a GET and writes the body to
// FILE.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"published": func(ts *testscript.TestScript, _ bool, args []string) {
				waitFor(ts, args[0], func(c control.Collection) bool { return c.Published && c.Release > 0 })
			},
			"complete": func(ts *testscript.TestScript, _ bool, args []string) {
				waitFor(ts, args[0], func(c control.Collection) bool {
					return !c.Published && c.Complete && (len(args) < 2 || args[1] == strconv.FormatUint(c.Release, 10))
				})
			},
			"caching": func(ts *testscript.TestScript, _ bool, args []string) {
				waitFor(ts, args[0], func(c control.Collection) bool { return c.Cache != nil && args[1] == strconv.FormatUint(c.Release, 10) })
			},
			"hears": func(ts *testscript.TestScript, _ bool, args []string) {
				waitFor(ts, args[0], func(c control.Collection) bool { return args[1] == strconv.FormatUint(c.Head, 10) })
			},
			"answers": func(ts *testscript.TestScript, _ bool, args []string) { waitFor(ts, args[0], nil) },
			"appears": appears,
			"http":    httpGet,
		},
		Condition: func(cond string) (bool, error) { // [file:PATH]: it is on this machine
			path, ok := strings.CutPrefix(cond, "file:")
			if !ok {
				return false, fmt.Errorf("there is no condition %q", cond)
			}
			_, err := os.Stat(path)
			return err == nil, nil
		},
	})
}

// waitFor waits until a collection of a node is as wanted; with nil until the node answers.
func waitFor(ts *testscript.TestScript, home string, ok func(control.Collection) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptWait)
	defer cancel()
	client := control.NewClient(ts.MkAbs(home))
	var last control.Status
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := client.Status(ctx); err == nil {
			last = s
			if ok == nil {
				tellScript(ts, s)
				return
			}
			for _, c := range s.Collections {
				if ok(c) {
					ts.Setenv("ID", c.ID.String())
					tellScript(ts, s)
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("after %s still not; last status: %+v", scriptWait, last)
		case <-tick.C:
		}
	}
}

// tellScript sets the addresses of a node.
func tellScript(ts *testscript.TestScript, s control.Status) {
	ts.Setenv("ADDR", bestAddr(s.Addrs))
	ts.Setenv("DASHBOARD", s.Dashboard)
	ts.Setenv("DASHBOARD_HOST", strings.Trim(strings.TrimPrefix(s.Dashboard, "http:"), "/"))
	if s.Gateway != nil {
		ts.Setenv("GATEWAY", s.Gateway.Local)
		ts.Setenv("GATEWAY_HOST", strings.Trim(strings.TrimPrefix(s.Gateway.Local, "http:"), "/"))
	}
}

// appears is the command "appears FILE TEXT": it waits until the text is in the file, which a process in the background writes.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	var last []byte
	for deadline := time.Now().Add(scriptWait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last, _ = os.ReadFile(ts.MkAbs(args[0])); strings.Contains(string(last), args[1]) {
			return
		}
	}
	ts.Fatalf("after %s %q is still not in %s:\n%s", scriptWait, args[1], args[0], last)
}

// httpGet is the command "http STATUS URL FILE": the body goes to FILE.
func httpGet(ts *testscript.TestScript, _ bool, args []string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: scriptWait}
	res, err := client.Get(args[1])
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if got := strconv.Itoa(res.StatusCode); got != args[0] {
		ts.Fatalf("GET %s: got %s, want %s\n%s", args[1], res.Status, args[0], body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o644))
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("needs some seconds")
	}
	t.Setenv("SWARMNODE_CONFIG", noFile) // that of this machine is none of a test's business
	keep := t.TempDir()
	var out, errs lockedBuffer
	if code := run(t.Context(), []string{"demo", "--keep", keep}, os.Stdin, &out, &errs); code != 0 {
		t.Fatalf("got exit code %d, want 0\n%s%s", code, out.String(), errs.String())
	}
	sum, err := compareTrees(t.Context(), keep+"/master", keep+"/joiner")
	if err != nil || sum.files < demoPackages {
		t.Errorf("got %d files and error %v, want at least %d and none", sum.files, err, demoPackages)
	}
}
