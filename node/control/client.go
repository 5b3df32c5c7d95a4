package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// ErrNoNode says that no node runs with this home directory.
var ErrNoNode = errors.New("no node is running with this home directory")

// ErrOtherUser says that a running node does not answer this user.
var ErrOtherUser = errors.New("the node with this home directory answers only the user who runs it")

// Client asks the running node of a home directory.
type Client struct {
	home string
	http *http.Client
}

// NewClient makes a client; it connects when it is used.
func NewClient(home string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path := SocketPath(home)
		if err := checkDir(home, path); err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	// A connection for each request: a client is made for one or two, and nobody closes it.
	return &Client{home: home, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks how the node is. The error is ErrNoNode if none runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	body, err := c.do(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return s, fmt.Errorf("status of the node in %s: %w", c.home, err)
	}
	return s, nil
}

// Publish has the node make a release and tells of its progress. The error is ErrNoNode if none runs.
func (c *Client) Publish(ctx context.Context, req PublishRequest, progress func(PublishProgress)) (PublishResult, error) {
	return c.publish(ctx, "/v1/publish", req, progress)
}

// Scrub has the node read all that it holds, from now on. The error is ErrNoNode if none runs.
func (c *Client) Scrub(ctx context.Context, req ScrubRequest) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/scrub", raw)
	if err != nil {
		return err
	}
	return body.Close()
}

// Acknowledge ends the alarm of a collection, given by ID or name. The error is ErrNoNode if none runs.
func (c *Client) Acknowledge(ctx context.Context, collection string) error {
	raw, err := json.Marshal(AcknowledgeRequest{Collection: collection})
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/acknowledge", raw)
	if err != nil {
		return err
	}
	return body.Close()
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: %s", ErrNoNode, c.home)
	}
	if err != nil && c.refused(err) {
		return nil, fmt.Errorf("%w: run the command as that user, or as root (%s): %w", ErrOtherUser, c.home, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the running node: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // it is only shown
		if resp.StatusCode == http.StatusConflict {             // it was understood, and the node says why not
			return nil, errors.New(strings.TrimSpace(string(text)))
		}
		return nil, fmt.Errorf("ask the running node: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}

// refused reports whether an error is how a node of another user answers: by the mode of the socket, or by ending the connection.
func (c *Client) refused(err error) bool {
	if errors.Is(err, syscall.EACCES) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	} // else it ended the connection, which net/http tells in half a dozen ways
	st, err := os.Lstat(SocketPath(c.home))
	return err == nil && !ownedByMe(st)
}
