package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"swarmnode/node/control"
)

// unread gives a pipe that is full and that nobody reads.
func unread(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	stuffed := newTold(w, nil)
	stuffed.end()
	for err == nil { // each waits for a little, the last in vain
		_, err = stuffed.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, errUnread) {
		t.Fatal(err)
	}
	return r, w
}

// A node of which nobody reads the output works, answers and stops when it is told to. One that waits for its reader hangs this test.
func TestNodeWithoutReader(t *testing.T) {
	for _, c := range []struct {
		name     string
		out, err bool // nobody reads it
		want     int
	}{
		{"standard error", false, true, 0},
		{"both", true, true, exitFailed}, // a script must learn that it did not get what was said
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SWARMNODE_CONFIG", noFile)
			home := t.TempDir()
			var stdout, stderr io.Writer = io.Discard, io.Discard
			if c.out {
				_, stdout = unread(t)
			}
			if c.err {
				_, stderr = unread(t)
			}
			ctx, stop := context.WithCancelCause(t.Context())
			code := make(chan int)
			go func() {
				code <- run(ctx, []string{"join", "--home", home, "--log-level", "debug", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-port-mapping",
					"--gateway", "127.0.0.1:0", "--dashboard", "none"}, os.Stdin, stdout, stderr)
			}()
			client := control.NewClient(home)
			if err := watch(t.Context(), func() (bool, error) {
				_, err := client.Status(t.Context())
				if errors.Is(err, control.ErrNoNode) {
					return false, nil
				}
				return true, err
			}); err != nil {
				t.Fatal(err)
			}
			stop(errInterrupted)
			if got := <-code; got != c.want {
				t.Errorf("got exit code %d, want %d", got, c.want)
			}
		})
	}
}

// What a reader missed on standard error he is told, in the form that the lines have.
func TestConsoleTellsWhatIsLost(t *testing.T) {
	for _, format := range []string{formatText, formatJSON} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		a := &app{console: newConsole(w), logLevel: "info", logFormat: format}
		a.console.inJSON(format == formatJSON)
		log := a.log()
		const lines = 3000 // of more than 1 KiB: three times what is kept
		for n := range lines {
			log.Info("a line", "number", n, "filling", strings.Repeat("x", 1<<10))
		}
		text := make(chan string)
		go func() {
			b, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			text <- string(b)
		}()
		for !a.console.Flush(unreadFor) {
		}
		w.Close()
		all := strings.Split(strings.TrimSuffix(<-text, "\n"), "\n")
		last := all[len(all)-1]
		var lost int
		if format == formatJSON {
			var r struct {
				Level string
				Lost  int `json:"lost_before"`
			}
			if err := json.Unmarshal([]byte(last), &r); err != nil || r.Level != "WARN" {
				t.Fatalf("%q: %v", last, err)
			}
			lost = r.Lost
		} else if _, err := fmt.Sscanf(last[strings.LastIndex(last, "("):], "(lost_before %d)", &lost); err != nil || !strings.Contains(last, " warning: lines were left out here: ") {
			t.Fatalf("%q: %v", last, err)
		}
		if came := len(all) - 1; came+lost != lines || lost == 0 {
			t.Errorf("%s: %d lines came and %d are told to be lost, want %d in all and some lost", format, came, lost, lines)
		}
	}
}

// Who answers a command waits for a slow reader, and gives all of it, unless the program is to end.
func TestToldWaits(t *testing.T) {
	r, w := unread(t)
	out := newTold(w, nil)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(out, "the answer")
		wrote <- err
		w.Close()
	}()
	b, err := io.ReadAll(r)
	if werr := <-wrote; werr != nil || err != nil || !strings.HasSuffix(string(b), "\x00the answer") {
		t.Errorf("got %d bytes that end in %q, %v, %v", len(b), b[max(0, len(b)-12):], werr, err)
	}
	if out.failed() != nil {
		t.Errorf("got %v", out.failed())
	}
}
