package origin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

const (
	// maxSigners is how many keys are tried: MaxAuthTries of sshd, which hangs up at the next one.
	maxSigners = 6
	// agentTimeout is for all that is asked of the agent; somebody may have to touch a token.
	agentTimeout = 30 * time.Second
)

// hostCheck knows the keys of servers.
type hostCheck struct {
	door    *sshDoor
	db      *knownhosts.HostKeyDB
	refused error // what key said last: the SSH library gives only its text
}

// file is where a line is to be added.
func (h *hostCheck) file() string {
	home, _ := os.UserHomeDir() // without one it is a relative path, which tells as much
	return cmp.Or(h.door.o.KnownHosts, filepath.Join(home, ".ssh", "known_hosts"))
}

// load reads the lists of known keys that there are.
func (h *hostCheck) load() error {
	files := []string{h.file()}
	if h.door.o.KnownHosts == "" {
		files = append(files, "/etc/ssh/ssh_known_hosts")
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		_, err := os.Stat(f)
		return errors.Is(err, os.ErrNotExist)
	})
	var err error
	if h.db, err = knownhosts.NewDB(files...); err != nil {
		return &RefusedError{Reason: "the list of known SSH servers cannot be read", Cause: err}
	}
	return nil
}

// algorithms puts the kinds of keys first that are known of the server: it has several, and shows the one that is asked for.
func (h *hostCheck) algorithms() []string {
	if known := h.db.HostKeyAlgorithms(h.door.addr); len(known) > 0 {
		return known
	}
	return []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

// key is the callback of the SSH library.
func (h *hostCheck) key(host string, remote net.Addr, key ssh.PublicKey) error {
	err := h.db.HostKeyCallback()(host, remote, key)
	if err == nil {
		return nil
	}
	shown := fmt.Sprintf("%s (%s)", ssh.FingerprintSHA256(key), key.Type())
	line := knownhosts.Line([]string{knownhosts.Normalize(host)}, key)
	reason := fmt.Sprintf("the key of SSH server %s cannot be believed", host)
	known := (*xknownhosts.KeyError)(nil)
	switch {
	case knownhosts.IsHostKeyChanged(err) && errors.As(err, &known):
		var had []string
		for _, k := range known.Want {
			had = append(had, fmt.Sprintf("%s (%s, line %d of %s)", ssh.FingerprintSHA256(k.Key), k.Key.Type(), k.Line, k.Filename))
		}
		reason = fmt.Sprintf("SSH SERVER %s SHOWS ANOTHER KEY THAN BEFORE: %s. Known is %s. Somebody may be listening in between: nothing was read. "+
			"If its people say that they have changed it, replace that line by\n%s\n", host, shown, strings.Join(had, ", "), line)
		err = nil
	case knownhosts.IsHostUnknown(err):
		reason = fmt.Sprintf("SSH server %s is not known. Its key is %s. If its people say that this is the right one, append this line to %s:\n%s\n", host, shown, h.file(), line)
		err = nil
	}
	h.refused = &RefusedError{Reason: reason, Cause: err}
	return h.refused
}

// sshKeyring is what opens the door.
type sshKeyring struct {
	door    *sshDoor
	agent   net.Conn // nil without one
	signers []ssh.Signer
	names   []string // of the signers, for people
	locked  []string // files that are encrypted, and not in the agent
}

func (k *sshKeyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// String tells what was tried.
func (k *sshKeyring) String() string {
	text := "no key at all"
	if len(k.names) > 0 {
		text = strings.Join(k.names, ", ")
	}
	if len(k.locked) > 0 {
		text += " (" + strings.Join(k.locked, ", ") + " has a passphrase: add it to the agent with ssh-add)"
	}
	return text
}

// load finds the keys: the one that was asked for, else those of the agent and the usual files.
func (k *sshKeyring) load(ctx context.Context) error {
	held := k.ask(ctx)
	if file := k.door.o.SSHKey; file != "" {
		if err := k.read(file, held); err != nil {
			return &RefusedError{Reason: "the key of --ssh-key cannot be used", Cause: err}
		}
		if len(k.locked) > 0 {
			return &RefusedError{Reason: file + " has a passphrase, and nobody is here to ask: add it to the agent (ssh-add, SSH_AUTH_SOCK), or make a key without one for this alone"}
		}
		return nil
	}
	for _, s := range held {
		k.add(s, "the agent's "+ssh.FingerprintSHA256(s.PublicKey()))
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil // a service without a home has no files there
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		// What cannot be read is not there for us; what is to be done is said if no other key opens the door.
		if err := k.read(filepath.Join(home, ".ssh", name), held); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.door.o.Log.Warn("an SSH key is passed over: name the one to use with --ssh-key", "error", err)
		}
	}
	return nil
}

// ask gives the keys that the agent holds.
func (k *sshKeyring) ask(ctx context.Context) []ssh.Signer {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil
	}
	conn, err := (&net.Dialer{Timeout: agentTimeout}).DialContext(ctx, "unix", socket)
	if err == nil {
		k.agent = conn
		err = conn.SetDeadline(time.Now().Add(agentTimeout))
	}
	var held []ssh.Signer
	if err == nil {
		held, err = agent.NewClient(conn).Signers()
	}
	if err != nil {
		k.door.o.Log.Warn("the SSH agent does not answer: start it, unset SSH_AUTH_SOCK, or name a key without a passphrase with --ssh-key", "socket", socket, "error", err)
	}
	return held
}

// read takes the key of a file, from the agent if it has a passphrase.
func (k *sshKeyring) read(file string, held []ssh.Signer) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s, err := ssh.ParsePrivateKey(data)
	sealed := (*ssh.PassphraseMissingError)(nil)
	if errors.As(err, &sealed) {
		public := sealed.PublicKey
		if public == nil {
			if data, err := os.ReadFile(file + ".pub"); err == nil {
				public, _, _, _, _ = ssh.ParseAuthorizedKey(data) // nil if it is none
			}
		}
		for _, h := range held {
			if public != nil && bytes.Equal(h.PublicKey().Marshal(), public.Marshal()) {
				k.add(h, file)
				return nil
			}
		}
		k.locked = append(k.locked, file)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	k.add(s, file)
	return nil
}

// add takes a key that is not there yet.
func (k *sshKeyring) add(s ssh.Signer, name string) {
	same := func(o ssh.Signer) bool { return bytes.Equal(o.PublicKey().Marshal(), s.PublicKey().Marshal()) }
	if len(k.signers) < maxSigners && !slices.ContainsFunc(k.signers, same) {
		k.signers, k.names = append(k.signers, s), append(k.names, name)
	}
}
