package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

func messages(list []LogRecord) (out []string) {
	for _, r := range list {
		out = append(out, r.Message)
	}
	return out
}

// TestJournal: the newest records are there, in order and with all attributes, those below Info only for those who follow them.
func TestJournal(t *testing.T) {
	var next strings.Builder
	j := NewJournal(slog.NewTextHandler(&next, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log := slog.New(j)
	log.Debug("lost")
	log.With("collection", "x").WithGroup("disk").Info("one", "free", 7)
	log.Warn(strings.Repeat("w", maxRecordText+5), "cut", "off")
	_, after, stop := j.follow(slog.LevelDebug, 0)
	log.Debug("two")
	if got := <-after; got.Message != "two" || got.Level != slog.LevelDebug {
		t.Errorf("followed %+v, want two", got)
	}
	stop()
	log.Debug("lost again")
	log.Info("three")
	if got := messages(j.last(slog.LevelDebug, 2)); !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("the last 2: %q", got)
	}
	all := j.last(slog.LevelInfo, 100)
	if len(all) != 3 || len(all[1].Message) > maxRecordText+len("…") || len(all[1].Attrs) != 0 {
		t.Errorf("kept %q", messages(all))
	}
	if got, want := fmt.Sprint(all[0].Attrs), "[{collection x false} {disk.free 7 true}]"; got != want {
		t.Errorf("attributes %s, want %s", got, want)
	}
	if got := next.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "www") {
		t.Errorf("handed on %q, want the warning alone", got)
	}
	for i := range keptRecords + 10 {
		log.Info(fmt.Sprint(i))
	}
	if all := j.last(slog.LevelInfo, 10*keptRecords); len(all) != keptRecords || all[0].Message != "10" {
		t.Errorf("%d are kept, the first is %q; want %d and 10", len(all), all[0].Message, keptRecords)
	}
}

// TestSlowFollower: who does not read loses records and is told how many; nobody waits for it.
func TestSlowFollower(t *testing.T) {
	j := NewJournal(slog.DiscardHandler)
	log := slog.New(j)
	_, after, stop := j.follow(slog.LevelInfo, 0)
	defer stop()
	for i := range recordsAhead + 5 {
		log.Info(fmt.Sprint(i))
	}
	for range recordsAhead {
		<-after
	}
	log.Info("next")
	if got := <-after; got.Message != "next" || got.Lost != 5 {
		t.Errorf("got %+v, want next with 5 lost", got)
	}
}

func TestLogsStream(t *testing.T) {
	home := t.TempDir()
	n := &fakeNode{journal: NewJournal(slog.DiscardHandler)}
	stop := serve(t, home, n)
	log := slog.New(n.journal)
	log.Info("one")
	log.Warn("two", "a", "b")
	var got []LogRecord
	keep := func(r LogRecord) error { got = append(got, r); return nil }
	if err := NewClient(home).Logs(t.Context(), slog.LevelWarn, 10, false, keep); err != nil || len(got) != 1 || got[0].Attrs[0] != (LogAttr{Key: "a", Value: "b"}) {
		t.Errorf("warnings: %+v, %v", got, err)
	}
	came, ended := make(chan string, 10), make(chan error, 1)
	go func() {
		ended <- NewClient(home).Logs(context.Background(), slog.LevelDebug, 1, true, func(r LogRecord) error { came <- r.Message; return nil })
	}()
	if m := <-came; m != "two" {
		t.Errorf("began with %q, want two", m)
	}
	log.Debug("three")
	if m := <-came; m != "three" {
		t.Errorf("went on with %q, want three", m)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the node stopped: %v, want an orderly end", err)
	}
	refused := errors.New("full")
	serve(t, home, n)
	if err := NewClient(home).Logs(t.Context(), slog.LevelInfo, 1, false, func(LogRecord) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// TestChanges: what makes an event and what does not.
func TestChanges(t *testing.T) {
	a, b := content.NewID([]byte("a")), content.NewID([]byte("b"))
	at := func(id content.ID, release uint64, alarm string) Collection {
		return Collection{ID: id, Alarm: alarm, Serving: Serving{Release: release}}
	}
	first := &Status{Verdict: "fine", Fine: true, Collections: []Collection{at(a, 1, "")}}
	for name, c := range map[string]struct {
		was, is *Status
		want    string
	}{
		"the first look":     {nil, first, "status:fine"},
		"nothing new":        {first, first, ""},
		"a release":          {first, &Status{Verdict: "fine", Collections: []Collection{at(a, 2, "")}}, "release:2"},
		"an alarm":           {first, &Status{Verdict: "alarm", Collections: []Collection{at(a, 1, "fork")}}, "alarm:fork status:alarm"},
		"the alarm is over":  {&Status{Collections: []Collection{at(a, 1, "fork")}}, &Status{Collections: []Collection{at(a, 1, "")}}, "alarm:"},
		"an alarm at first":  {nil, &Status{Verdict: "alarm", Collections: []Collection{at(a, 1, "fork")}}, "alarm:fork status:alarm"},
		"another collection": {first, &Status{Verdict: "fine", Collections: []Collection{at(a, 1, ""), at(b, 0, "")}}, ""},
		"and its release":    {first, &Status{Verdict: "fine", Collections: []Collection{at(a, 1, ""), at(b, 5, "")}}, "release:5"},
		"one is removed":     {first, &Status{Verdict: "idle"}, "status:idle"},
	} {
		var got []string
		for _, e := range changes(c.was, c.is, time.Time{}) {
			switch e.Type {
			case EventStatus:
				got = append(got, "status:"+e.Verdict)
			case EventRelease:
				got = append(got, fmt.Sprint("release:", e.Collection.Release))
			case EventAlarm:
				got = append(got, "alarm:"+e.Collection.Alarm)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestEventsOfTheSocket: the first event says how it stands, the last that the node stops; who is cut off is told so.
func TestEventsOfTheSocket(t *testing.T) {
	home := t.TempDir()
	stop := serve(t, home, &fakeNode{})
	body, err := NewClient(home).do(t.Context(), "GET", "/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len("event: status\ndata: {"))
	if _, err := io.ReadFull(body, head); err != nil || string(head) != "event: status\ndata: {" {
		t.Errorf("the stream begins with %q, %v", head, err)
	}
	body.Close()
	came, ended := make(chan Event, 10), make(chan error, 1)
	go func() {
		ended <- NewClient(home).Events(context.Background(), func(e Event) error { came <- e; return nil })
	}()
	if e := <-came; e.Type != EventStatus || e.Verdict != "fine" || !e.Fine {
		t.Errorf("the first event is %+v, want the verdict", e)
	}
	stop()
	if e, err := <-came, <-ended; e.Type != EventEnd || err != nil {
		t.Errorf("the last event is %+v, %v; want the end", e, err)
	}
	if err := cut(t.Context(), nil); !errors.Is(err, ErrCut) {
		t.Errorf("a stream without an end: %v", err)
	}
}

// TestStreamLimit: so many follow at a time, and the next hears why not.
func TestStreamLimit(t *testing.T) {
	home := t.TempDir()
	serve(t, home, &fakeNode{journal: NewJournal(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxStreams {
		body, err := NewClient(home).do(ctx, "GET", "/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
	}
	err := NewClient(home).Logs(ctx, slog.LevelInfo, 1, false, func(LogRecord) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "commands follow this node already") {
		t.Errorf("one more: %v", err)
	}
}
