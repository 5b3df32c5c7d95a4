package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// From says what is published instead of a directory of this machine. Only URL is required.
type From struct {
	URL          string   `json:"url"` // see origin.Open; in what is kept without its password
	Include      []string `json:"include,omitempty"`
	Strict       bool     `json:"strict,omitempty"`      // a path that cannot be published refuses the run
	Private      bool     `json:"private,omitempty"`     // the origin may be at a private address
	Connections  int      `json:"connections,omitempty"` // at a time; 0: origin.DefaultConnections
	Rate         int64    `json:"rate,omitempty"`        // bytes per second; 0: no limit
	Contact      string   `json:"contact,omitempty"`     // whom the people of the origin can write to
	OriginAccess          // what opens doors
}

// OriginAccess are files that an origin may ask for, with absolute paths.
type OriginAccess struct {
	Netrc      string `json:"netrc,omitempty"`
	KnownHosts string `json:"known_hosts,omitempty"`
	SSHKey     string `json:"ssh_key,omitempty"`
	Keyring    string `json:"keyring,omitempty"`
	CACert     string `json:"ca_cert,omitempty"`
}

// Triggers say when a collection is published again by itself.
type Triggers struct {
	Every      time.Duration `json:"every,omitempty"`       // 0: no interval
	Watch      bool          `json:"watch,omitempty"`       // a directory of this machine is watched
	Webhook    string        `json:"webhook,omitempty"`     // host:port to take webhooks at; "": none
	SecretFile string        `json:"secret_file,omitempty"` // of the webhook
}

// Origin is how a collection stands that is published again by itself. Times are missing where there was none yet.
type Origin struct {
	URL     string     `json:"url"` // without a password; the path of a directory here
	Every   float64    `json:"every_seconds,omitempty"`
	Watch   bool       `json:"watch,omitempty"`
	Webhook string     `json:"webhook,omitempty"` // URL, as it is reached from this machine
	Running bool       `json:"running"`
	Cause   string     `json:"cause,omitempty"` // of the last run, or that under way
	Error   string     `json:"error,omitempty"` // of the last run
	Behind  bool       `json:"behind"`          // runs have been failing for several intervals
	Change  LastChange `json:"last_change"`
	// Progress is where the run under way stands; nil if none is.
	Progress *PublishProgress `json:"progress,omitempty"`
	LeftOut
	OriginRuns
	OriginTimes
}

// LeftOut is what could not be published in the last run that ended well.
type LeftOut struct {
	Paths   int      `json:"left_out"`
	Reasons []string `json:"left_out_reasons,omitempty"` // of the first of them
}

// LastChange is the last run that made a release, since the start of the node.
type LastChange struct {
	Release uint64    `json:"release"` // 0: there was none
	At      time.Time `json:"at,omitzero"`
	Files   int       `json:"fetched_files"`
	Bytes   uint64    `json:"fetched_bytes"`
	Seconds float64   `json:"seconds"`
}

// OriginRuns counts since the start of the node.
type OriginRuns struct {
	Runs     uint64 `json:"runs"`
	Failures uint64 `json:"failures"`
	Changes  uint64 `json:"changes"`  // runs that made a release
	Requests uint64 `json:"requests"` // that the listings took
	Files    uint64 `json:"fetched_files"`
	Bytes    uint64 `json:"fetched_bytes"`

	LastRequests int     `json:"last_requests"` // of the last run
	LastSeconds  float64 `json:"last_seconds"`
}

// OriginTimes says when.
type OriginTimes struct {
	Begun   time.Time `json:"begun,omitzero"`         // the run under way, or the last
	Last    time.Time `json:"last,omitzero"`          // the end of the last run
	Success time.Time `json:"last_success,omitzero"`  // the end of the last run without an error
	Next    time.Time `json:"next,omitzero"`          // zero: when something asks for it
	Failing time.Time `json:"failing_since,omitzero"` // the end of the first failure since a success
	Dated   time.Time `json:"metadata_made,omitzero"` // the metadata of a package repository, by what they said in the last success; the oldest of several
}

// NowRequest asks for a run.
type NowRequest struct {
	Collection  string `json:"collection"`             // ID or name
	AllowEmpty  bool   `json:"allow_empty,omitempty"`  // this time
	AllowShrink bool   `json:"allow_shrink,omitempty"` // likewise
}

// PublishNow has a collection with triggers published now and waits for that. The error is ErrNoNode if no node runs.
func (c *Client) PublishNow(ctx context.Context, req NowRequest, progress func(PublishProgress)) (PublishResult, error) {
	return c.publish(ctx, "/v1/publish/now", req, progress)
}

// publish sends a request and tells of the progress until there is a result.
func (c *Client) publish(ctx context.Context, path string, req any, progress func(PublishProgress)) (PublishResult, error) {
	raw, err := json.Marshal(req)
	if err != nil {
		return PublishResult{}, err
	}
	body, err := c.do(ctx, http.MethodPost, path, raw)
	if err != nil {
		return PublishResult{}, err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var r record
		if err := dec.Decode(&r); err != nil {
			if ctx.Err() != nil {
				return PublishResult{}, context.Cause(ctx)
			}
			return PublishResult{}, fmt.Errorf("the node stopped before it had published; run publish again: %w", err)
		}
		switch {
		case r.Result != nil:
			return *r.Result, nil
		case r.Error != "":
			return PublishResult{}, errors.New(r.Error)
		case r.Progress != nil:
			progress(*r.Progress)
		}
	}
}
