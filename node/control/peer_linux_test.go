package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMayControl(t *testing.T) {
	for _, c := range []struct {
		uid, node int
		want      bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}, {65534, 65533, false}} {
		if got := mayControl(c.uid, c.node); got != c.want {
			t.Errorf("user %d and a node of %d: %v, want %v", c.uid, c.node, got, c.want)
		}
	}
}

// nobody is the user and group without rights.
const nobody = 65534

// askSocket says to a copy of this test which socket it is to try.
const askSocket = "SWARMNODE_TEST_SOCKET"

// TestAnotherUser: a user who got at the socket although its mode is against it is sent away without an answer, and cannot connect
// as long as the mode is as it was made.
func TestAnotherUser(t *testing.T) {
	if path := os.Getenv(askSocket); path != "" {
		tryStatus(path)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	home, err := os.MkdirTemp("", "socket-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	program := filepath.Join(home, "test")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, raw, 0o755)
	}
	if err == nil {
		err = os.Chmod(home, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	serve(t, home, &fakeNode{})
	asNobody := func() string {
		cmd := exec.Command(program, "-test.run=^TestAnotherUser$")
		cmd.Dir, cmd.Env = home, append(os.Environ(), askSocket+"="+SocketPath(home))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("as nobody: %v\n%s", err, out)
		}
		if !strings.Contains(string(out), "client: another user's") {
			t.Errorf("the client does not say what is wrong:\n%s", out)
		}
		return string(out)
	}
	if got := asNobody(); !strings.Contains(got, "connect: permission denied") {
		t.Errorf("with the mode that it has: %s", got)
	}
	if err := os.Chmod(SocketPath(home), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := asNobody(); !strings.Contains(got, "answer: 0 bytes") {
		t.Errorf("with a mode that lets everybody in: %s", got)
	}
	if _, err := NewClient(home).Status(t.Context()); err != nil {
		t.Errorf("its own user afterwards: %v", err)
	}
}

// tryStatus asks for the status over a socket and tells on standard output what came, and what the client makes of it.
func tryStatus(path string) {
	if _, err := NewClient(filepath.Dir(path)).Status(context.Background()); errors.Is(err, ErrOtherUser) {
		os.Stdout.WriteString("client: another user's\n")
	} else {
		fmt.Fprintf(os.Stdout, "client: %v\n", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /v1/status HTTP/1.0\r\n\r\n") // it may be closed already
	answer, _ := io.ReadAll(c)
	if len(answer) > 0 {
		os.Stdout.Write(answer)
		return
	}
	os.Stdout.WriteString("answer: 0 bytes\n")
}
