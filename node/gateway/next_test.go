package gateway

import "testing"

// TestNext: a release that is not whole here yet gives what has its version in its name, and nothing else.
func TestNext(t *testing.T) {
	r := newRig(t, file{Path: "index", Data: "first"}, file{Path: "pool/"}, file{Path: "pool/a_1.deb", Data: "a 1"})
	first := r.cat.c.Served
	second := r.cat.publish(t, r.src, 2, file{Path: "index", Data: "second"}, file{Path: "new-index", Data: "second"}, file{Path: "pool/"}, file{Path: "pool/a_1.deb", Data: "a 1"},
		file{Path: "pool/a_2.deb", Data: "a 2"}, file{Path: "pool/a_3.deb", Data: "a 3"})
	r.cat.c.Served, r.cat.c.Kept, r.cat.c.Next = first, nil, second
	for _, x := range []struct {
		path string
		want int
		body string
	}{
		{"/test/index", 200, "first"}, {"/test/pool/a_1.deb", 200, "a 1"}, {"/test/pool/a_2.deb", 200, "a 2"},
		{"/test/new-index", 404, ""}, {"/test/pool/a_4.deb", 404, ""},
	} {
		if got := r.get(x.path); got.StatusCode != x.want || x.want == 200 && got.body != x.body {
			t.Errorf("%s: %d %q, want %d %q", x.path, got.StatusCode, got.body, x.want, x.body)
		}
	}
}
