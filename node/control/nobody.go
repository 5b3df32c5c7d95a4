package control

import (
	"net/http"
	"time"
)

// noBody refuses requests that announce a body: nothing here reads one, and net/http waits for some of it after the answer, without an
// end, so that a few of these would take all places.
func noBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		if http.NewResponseController(w).SetReadDeadline(time.Now()) != nil {
			panic(http.ErrAbortHandler) // so that nothing is waited for
		}
		http.Error(w, "nothing here takes a body: leave it out", http.StatusRequestEntityTooLarge)
	})
}
