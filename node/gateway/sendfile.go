package gateway

import (
	"io"
	"net"
	"os"
	"sync"
)

// copySize is the size of the buffers for files that are not sent by the kernel. Two TLS records of the largest size (RFC 8446, 5.1).
const copySize = 32 << 10

// maxSend is what one sendfile(2) is asked for; the kernel takes no more than 2 GiB less a page.
const maxSend = 1 << 30

// copyBuffers is a variable because it is a pool; what is in a buffer is of no meaning to the next.
var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// filePart is a part of an open file, to be sent. It does not use the position of the file, so that many can be sent from one
// descriptor at once. A conn takes it without copying where the system can; anybody else reads it.
type filePart struct {
	file         *os.File
	offset, left int64
}

func (p *filePart) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > p.left {
		b = b[:p.left]
	}
	n, err := p.file.ReadAt(b, p.offset)
	p.offset += int64(n)
	p.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the file is shorter than what was promised
	}
	if n > 0 {
		return n, nil // the error comes again
	}
	return 0, err
}

// copyTo is sendTo for systems, files and connections that need a copy.
func (p *filePart) copyTo(c net.Conn) (n int64, whole bool, err error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for p.left > 0 {
		m, err := p.file.ReadAt(buf[:min(p.left, copySize)], p.offset)
		if m == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, false, err
		}
		m, err = c.Write(buf[:m])
		n += int64(m)
		p.offset += int64(m)
		p.left -= int64(m)
		if err != nil {
			return n, false, err
		}
	}
	return n, true, nil
}
