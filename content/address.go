package content

import "net/netip"

// PrivateAddr reports whether an address means no machine elsewhere: loopback, private, link-local, site-local, shared (RFC 6598), reserved
// and multicast ones, those of protocols and benchmarks (RFC 6890), of a translator of one's own (RFC 8215), and those of IPv6 that a translator turns into such a one (RFC 6052, RFC 3056).
func PrivateAddr(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || b[0] == 0 || b[0] == 100 && b[1]&0xc0 == 64 || b[0] >= 224 ||
			b[0] == 192 && b[1] == 0 && b[2] == 0 || b[0] == 198 && b[1]&0xfe == 18
	}
	b := a.As16()
	if netip.PrefixFrom(a, 48).Masked().Addr() == netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 0, 1}) || b[0] == 0xfe && b[1]&0xc0 == 0xc0 {
		return true
	}
	if netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[12], 13: b[13], 14: b[14], 15: b[15]}) == a {
		return PrivateAddr(netip.AddrFrom4([4]byte(b[12:])))
	}
	return b[0] == 0x20 && b[1] == 0x02 && PrivateAddr(netip.AddrFrom4([4]byte(b[2:6]))) ||
		a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()
}
