package control

import (
	"context"
	"encoding/json"
	"net/http"

	"swarmnode/content"
)

// Manager is what an operator changes about the collections of a running node. Collections are given by ID or name.
type Manager interface {
	// Add begins to mirror a collection.
	Add(ctx context.Context, req AddRequest) (Collection, error)
	// Remove ends it and deletes what was kept of it.
	Remove(req RemoveRequest) (Removed, error)
	// Pause stops the fetching or the serving of collections, or lets it go on, also beyond a restart. It gives those that it is about.
	Pause(req PauseRequest) ([]Collection, error)
}

// AddRequest asks for a collection to be mirrored.
type AddRequest struct {
	ID        content.ID `json:"id"`
	Bootstrap []string   `json:"bootstrap,omitempty"` // addresses of nodes that may have it
	CacheOnly bool       `json:"cache_only,omitempty"`
}

// RemoveRequest asks for a collection to be given up.
type RemoveRequest struct {
	Collection string `json:"collection"`
	Keep       bool   `json:"keep,omitempty"`    // what is on disk stays there
	DryRun     bool   `json:"dry_run,omitempty"` // only say what would be deleted
}

// Removed says what was removed, or would be.
type Removed struct {
	ID        content.ID `json:"id"`
	Name      string     `json:"name"`
	Published bool       `json:"published"`
	Dir       string     `json:"dir"`
	Bytes     int64      `json:"bytes"` // on disk in Dir
	Kept      bool       `json:"kept"`  // Dir stays
}

// Paused is what a collection does not do on request of the operator.
type Paused struct {
	Fetching bool `json:"fetching,omitempty"` // nothing is fetched from others
	Serving  bool `json:"serving,omitempty"`  // nothing is given to anybody
}

// PauseRequest sets what a collection does not do from now on; without any it does everything again.
type PauseRequest struct {
	Collection string `json:"collection,omitempty"` // "": all that are here
	Resume     bool   `json:"resume,omitempty"`
	Paused
}

// manage answers the requests of a Manager.
func manage(mux *http.ServeMux, m Manager) {
	mux.HandleFunc("POST /v1/collections/add", func(w http.ResponseWriter, r *http.Request) {
		respond(w, r, func(req AddRequest) (Collection, error) { return m.Add(r.Context(), req) })
	})
	mux.HandleFunc("POST /v1/collections/remove", func(w http.ResponseWriter, r *http.Request) { respond(w, r, m.Remove) })
	mux.HandleFunc("POST /v1/pause", func(w http.ResponseWriter, r *http.Request) { respond(w, r, m.Pause) })
}

// respond reads a request, has it done and writes what came of it.
func respond[Q, A any](w http.ResponseWriter, r *http.Request, do func(Q) (A, error)) {
	var req Q
	dec := json.NewDecoder(body(w, r))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		http.Error(w, "the request is not understood; is the running node of another version? "+err.Error(), http.StatusBadRequest)
		return
	}
	res, err := do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(res) // a client that has gone hears nothing
}

// Add has the node mirror a collection. The error is ErrNoNode if none runs.
func (c *Client) Add(ctx context.Context, req AddRequest) (Collection, error) {
	return ask[Collection](ctx, c, "/v1/collections/add", req)
}

// Remove has the node give a collection up. The error is ErrNoNode if none runs.
func (c *Client) Remove(ctx context.Context, req RemoveRequest) (Removed, error) {
	return ask[Removed](ctx, c, "/v1/collections/remove", req)
}

// Pause stops the fetching or the serving of collections, or lets it go on. The error is ErrNoNode if none runs.
func (c *Client) Pause(ctx context.Context, req PauseRequest) ([]Collection, error) {
	return ask[[]Collection](ctx, c, "/v1/pause", req)
}

// ask sends a request and reads the answer.
func ask[A any](ctx context.Context, c *Client, path string, req any) (res A, err error) {
	raw, err := json.Marshal(req)
	if err != nil {
		return res, err
	}
	body, err := c.do(ctx, http.MethodPost, path, raw)
	if err != nil {
		return res, err
	}
	defer body.Close()
	return res, json.NewDecoder(body).Decode(&res)
}
