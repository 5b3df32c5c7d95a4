package control

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// unwilling is a node that does nothing.
type unwilling struct{ Node }

func (unwilling) Publish(context.Context, PublishRequest, func(PublishProgress)) (PublishResult, error) {
	return PublishResult{}, nil
}

func FuzzPublishRequest(f *testing.F) {
	f.Add([]byte(`{"dir":"/srv","name":"debian","exclude":["*.tmp"]}`))
	f.Add([]byte(`{"Dir":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		servePublish(w, httptest.NewRequest(http.MethodPost, "/v1/publish", bytes.NewReader(body)), unwilling{}.Publish)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest || w.Body.Len() == 0 {
			t.Errorf("%q: status %d, %q", body, w.Code, w.Body)
		}
	})
}
