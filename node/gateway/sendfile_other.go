//go:build !linux

package gateway

import "net"

func (p *filePart) sendTo(c net.Conn) (int64, bool, error) { return p.copyTo(c) }

// boundUnsent is for systems on which it was measured.
func boundUnsent(net.Conn) {}

// acknowledged is not known here: only what could be written counts.
func acknowledged(net.Conn) int64 { return 0 }
