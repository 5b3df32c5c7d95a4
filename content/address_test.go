package content

import (
	"net/netip"
	"testing"
)

func TestPrivateAddr(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
		"192.0.0.8", "198.18.0.1", "198.19.255.255", "64:ff9b:1::5db8:d822", "fec0::1"} {
		if !PrivateAddr(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for public", a)
		}
	}
	for _, a := range []string{"93.184.216.34", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2001:db8::1", "2a00::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822",
		"192.0.1.1", "198.17.0.1", "198.20.0.1", "64:ff9b:2::1"} {
		if PrivateAddr(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for private", a)
		}
	}
}
