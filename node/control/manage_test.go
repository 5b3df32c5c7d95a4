package control

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"swarmnode/content"
)

// fakeManager takes what it is asked for and gives it back.
type fakeManager struct {
	paused PauseRequest
	refuse error
}

func (f *fakeManager) Add(_ context.Context, req AddRequest) (Collection, error) {
	return Collection{ID: req.ID, Source: strings.Join(req.Bootstrap, " ")}, f.refuse
}

func (f *fakeManager) Remove(req RemoveRequest) (Removed, error) {
	return Removed{Name: req.Collection, Kept: req.Keep, Bytes: 7}, f.refuse
}

func (f *fakeManager) Pause(req PauseRequest) ([]Collection, error) {
	f.paused = req
	return []Collection{{Name: req.Collection, Paused: req.Paused}}, f.refuse
}

func TestManage(t *testing.T) {
	home := t.TempDir()
	m := &fakeManager{}
	serve(t, home, &fakeNode{Manager: m})
	c, id := NewClient(home), content.NewID([]byte("x"))
	if got, err := c.Add(t.Context(), AddRequest{ID: id, Bootstrap: []string{"a", "b"}}); err != nil || got.ID != id || got.Source != "a b" {
		t.Errorf("add: %+v, %v", got, err)
	}
	if got, err := c.Remove(t.Context(), RemoveRequest{Collection: "debian", Keep: true}); err != nil || got != (Removed{Name: "debian", Kept: true, Bytes: 7}) {
		t.Errorf("remove: %+v, %v", got, err)
	}
	want := PauseRequest{Collection: "debian", Paused: Paused{Serving: true}}
	if got, err := c.Pause(t.Context(), want); err != nil || m.paused != want || len(got) != 1 || got[0].Paused != want.Paused {
		t.Errorf("pause: %+v, %v; the node heard %+v", got, err, m.paused)
	}
	m.refuse = errors.New("debian is published from here")
	if _, err := c.Remove(t.Context(), RemoveRequest{Collection: "debian"}); err == nil || err.Error() != m.refuse.Error() {
		t.Errorf("a refusal: %v, want the node's words alone", err)
	}
	if _, err := c.do(t.Context(), http.MethodPost, "/v1/pause", []byte(`{"collection":"debian","for":"1h"}`)); err == nil || !strings.Contains(err.Error(), "for") {
		t.Errorf("a request with an unknown field: %v", err)
	}
}
