package spool

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func lostLine(n int) string { return fmt.Sprintf("lost %d\n", n) }

// A pipe that nobody reads holds up nobody who writes; who reads it later gets whole lines in order, and is told of every one that is
// missing. A Queue that waits hangs this test.
func TestUnreadPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const writers, each = 4, 20_000
	q := New(w, lostLine)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			for n := range each {
				fmt.Fprintf(q, "writer %d line %d %s\n", i, n, strings.Repeat("x", 80))
			}
		})
	}
	wait.Wait()
	if q.Flush(time.Millisecond) {
		t.Fatal("all is said to be written to a pipe that nobody reads")
	}
	got := make(chan [2]int)
	go func() {
		came, lost := 0, 0
		next := [writers]int{}
		for lines := bufio.NewScanner(r); lines.Scan(); {
			var i, n int
			if _, err := fmt.Sscanf(lines.Text(), "lost %d", &n); err == nil {
				lost += n
				continue
			}
			if _, err := fmt.Sscanf(lines.Text(), "writer %d line %d ", &i, &n); err != nil || !strings.HasSuffix(lines.Text(), "xxx") {
				t.Errorf("got the line %q", lines.Text())
				continue
			}
			if n < next[i] {
				t.Errorf("line %d of writer %d came after line %d", n, i, next[i]-1)
			}
			next[i] = n + 1
			came++
		}
		got <- [2]int{came, lost}
	}()
	for !q.Flush(time.Hour) {
	}
	fmt.Fprintln(q, "writer 0 line 20000 xxx")
	for !q.Flush(time.Hour) {
	}
	w.Close()
	sums := <-got
	if sums[0]+sums[1] != writers*each+1 || sums[1] == 0 {
		t.Errorf("%d lines came and %d are told to be lost, want %d in all and some lost", sums[0], sums[1], writers*each+1)
	}
	if len(q.lines)+q.size+q.dropped != 0 {
		t.Errorf("%d lines, %d bytes and %d that are lost are left", len(q.lines), q.size, q.dropped)
	}
}

// gated is a writer that waits for leave before each write.
type gated struct {
	leave chan struct{}
	text  strings.Builder
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.leave
	return g.text.Write(b)
}

// What was lost is told where it is missing: before the next line that is taken, or at the end when none comes.
func TestLostIsToldInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gated{leave: make(chan struct{})}
		q := New(g, lostLine)
		line := strings.Repeat("a", maxBytes/2-1) + "\n"
		q.Write([]byte("first\n"))
		synctest.Wait() // the first is being written, the next two fill the queue
		q.Write([]byte(line))
		q.Write([]byte(line))
		q.Write([]byte("b\n"))
		q.Write([]byte("c\n"))
		g.leave <- struct{}{}
		synctest.Wait()
		q.Write([]byte("d\n")) // there is room, but not much: one gap is better than two
		g.leave <- struct{}{}
		synctest.Wait()
		q.Write([]byte("e\n"))
		q.Write([]byte(line))
		q.Write([]byte(line))
		close(g.leave)
		if !q.Flush(time.Second) {
			t.Fatal("not all was written")
		}
		if got, want := g.text.String(), "first\n"+line+line+"lost 3\ne\n"+line+"lost 1\n"; got != want {
			t.Errorf("got %q\nwant %q", strings.ReplaceAll(got, line, "(line)\n"), strings.ReplaceAll(want, line, "(line)\n"))
		}
	})
}

// Who wants to come after what was written waits for a reader that hangs once, and again when that has gone on.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gated{leave: make(chan struct{})}
		q := New(g, lostLine)
		took := func() time.Duration {
			start := time.Now()
			q.Settle(time.Second)
			return time.Since(start)
		}
		q.Write([]byte("a\n"))
		q.Write([]byte("b\n"))
		for i, want := range []time.Duration{time.Second, 0, 0} {
			if got := took(); got != want {
				t.Errorf("call %d waited %s, want %s", i, got, want)
			}
		}
		g.leave <- struct{}{}
		synctest.Wait()
		if got := took(); got != time.Second {
			t.Errorf("waited %s after a line went through, want 1s", got)
		}
		close(g.leave)
		synctest.Wait()
		if got := took(); got != 0 || g.text.String() != "a\nb\n" {
			t.Errorf("waited %s for nothing, with %q written", got, g.text.String())
		}
	})
}
