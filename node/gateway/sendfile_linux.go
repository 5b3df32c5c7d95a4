package gateway

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendTo sends what is left with sendfile(2), until the write deadline. whole reports whether nothing is left.
func (p *filePart) sendTo(c net.Conn) (n int64, whole bool, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return p.copyTo(c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	from, err := p.file.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var failed, waited error
	err = from.Control(func(in uintptr) { // keeps the descriptor open
		waited = raw.Write(func(out uintptr) (done bool) {
			var m int64
			m, done, failed = p.sendNow(int(out), int(in))
			n += m
			return done
		})
	})
	if errors.Is(failed, unix.EINVAL) || errors.Is(failed, unix.ENOSYS) {
		m, whole, err := p.copyTo(c) // a file system that cannot
		return n + m, whole, err
	}
	return n, p.left <= 0, errors.Join(err, failed, waited)
}

// sendNow sends what the connection takes without waiting. done is false when it has to be waited for.
func (p *filePart) sendNow(out, in int) (n int64, done bool, err error) {
	for p.left > 0 {
		m, err := unix.Sendfile(out, in, &p.offset, int(min(p.left, maxSend)))
		switch {
		case m > 0:
			n += int64(m)
			p.left -= int64(m)
		case errors.Is(err, unix.EAGAIN):
			return n, false, nil
		case err == nil:
			return n, true, io.ErrUnexpectedEOF // the file is shorter than what was promised
		case !errors.Is(err, unix.EINTR):
			return n, true, err
		}
	}
	return n, true, nil
}

// boundUnsent has the kernel take no more than unsentBytes that it cannot send yet (tcp(7), TCP_NOTSENT_LOWAT). A connection of which
// that cannot be said is as good as any.
func boundUnsent(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes) //nolint:errcheck // a kernel before 3.12
	})
}

// acknowledged gives the bytes that the other side of a TCP connection has acknowledged since it began; 0 if that is not known.
func acknowledged(c net.Conn) int64 {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	var acked int64
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked = int64(info.Bytes_acked)
		}
	})
	return acked
}
