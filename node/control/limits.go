package control

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"swarmnode/node/policy"
)

// Limits say what the node may send to others and get from them, the local network left out, and what it has in this month.
type Limits struct {
	Upload   policy.Rate `json:"upload_bytes_per_second"` // that holds now; 0: no limit
	Download policy.Rate `json:"download_bytes_per_second"`
	Monthly  int64       `json:"monthly_bytes"`      // that may be sent in a calendar month; 0: no limit
	Schedule []string    `json:"schedule,omitempty"` // entries of the schedule that hold now

	Month    string    `json:"month"` // 2026-11
	Sent     int64     `json:"month_sent"`
	Received int64     `json:"month_received"`
	Ends     time.Time `json:"month_ends"`
	Over     bool      `json:"month_over"` // nothing more is given in it
}

// LimitsRequest changes limits: upload and download in the form 20Mbit, monthly in the form 2TB; none for no limit.
type LimitsRequest map[string]string

// SetLimits has the node keep other limits until it ends. The error is ErrNoNode if none runs.
func (c *Client) SetLimits(ctx context.Context, req LimitsRequest) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, http.MethodPost, "/v1/limits", raw)
	if err != nil {
		return err
	}
	return answer.Close()
}

func serveLimits(w http.ResponseWriter, r *http.Request, n Node) {
	var req LimitsRequest
	err := json.NewDecoder(body(w, r)).Decode(&req)
	if err == nil {
		err = n.SetLimits(req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}
