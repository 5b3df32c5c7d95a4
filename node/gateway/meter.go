package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// Limit says how much may be sent.
type Limit interface {
	// Send waits until some of n bytes may be sent to an address and says how many.
	Send(ctx context.Context, to netip.Addr, n int) (int, error)
	// Closed reports whether an address gets nothing now, and when it had better ask again.
	Closed(to netip.Addr) (after time.Duration, closed bool)
}

// errClosed cuts an answer.
var errClosed = errors.New("all that may be sent this month is sent")

// meter holds what goes to one address to a Limit. The zero meter does nothing.
type meter struct {
	limit Limit
	ctx   context.Context // of the connection or request: an io.Writer has none
	addr  netip.Addr
	own   bool // what this gateway says of itself: that is little, and always answered
}

// newMeter makes one for host:port.
func newMeter(ctx context.Context, limit Limit, to string) meter {
	at, _ := netip.ParseAddrPort(to) // the zero Addr if it is none
	return meter{limit: limit, ctx: ctx, addr: at.Addr().Unmap()}
}

// send says how many of n bytes to write now, after a wait.
func (m *meter) send(n int) (int, error) {
	if m.limit == nil {
		return n, nil
	}
	return m.limit.Send(m.ctx, m.addr, n)
}

// check is errClosed when nothing more may be sent.
func (m *meter) check() error {
	if m.limit == nil || m.own {
		return nil
	}
	if _, closed := m.limit.Closed(m.addr); closed {
		return errClosed
	}
	return nil
}

// refuses answers a request for which nothing is left, and reports whether it did. How this gateway is may still be asked.
func (m *meter) refuses(w http.ResponseWriter, r *http.Request) bool {
	m.own = r.URL.Path == "/-/health" || r.URL.Path == "/-/status.json"
	if m.limit == nil || m.own {
		return false
	}
	after, closed := m.limit.Closed(m.addr)
	if !closed {
		return false
	}
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(after/time.Second))))
	http.Error(w, "This mirror has given all that its operator gives in a month. Use another mirror, or try again later.", http.StatusServiceUnavailable)
	return true
}
