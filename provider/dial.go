package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Who may register a provider or choose a param could otherwise make this
// process call what only it can reach: cloud metadata, databases, itself. So
// only https is spoken, a host is refused if any of its addresses is one that
// the internet does not route, and the address that was checked is the one that
// is dialed: a name that resolves to another address a moment later gains
// nothing.

const (
	// connectTimeout is how long connecting may take: net/http lets it go on
	// after the request was given up.
	connectTimeout = 15 * time.Second
	// attempt is how long one address is tried while there are others.
	attempt = 5 * time.Second
	// maxAddresses is how many are tried.
	maxAddresses = 4
	// maxHeader bounds the header of an answer, in bytes.
	maxHeader = 256 << 10
)

// special are the networks inside the globally routed space that are not
// (IANA's special-purpose address registries), and those that carry an IPv4
// address which is then not seen.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // Teredo and others
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
}

var (
	global6 = netip.MustParsePrefix("2000::/3")     // all that is assigned
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address for hosts that have only IPv6
)

// public reports whether an address is one that the internet routes.
func public(a netip.Addr) bool {
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.Zone() != "" || a.Is6() && !global6.Contains(a) || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, network := range special {
		if network.Contains(a) {
			return false
		}
	}
	return true
}

// permitted says whether a URL may be called.
func (p *Provider) permitted(u *url.URL) error {
	switch {
	case u.Scheme == "https", u.Scheme == "http" && p.cfg.AllowPrivateNetworks:
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%s is to be called by http; use https, or set allow_private_networks", u.Host)
	}
	return fmt.Errorf("%s is to be called by %q; use https", u.Host, u.Scheme)
}

// dial connects to one of a host's addresses, all of which have been checked.
func (p *Provider) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	addresses, err := p.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var first error
	for i, a := range addresses {
		conn, err := p.dialOne(ctx, network, net.JoinHostPort(a.String(), port), i == len(addresses)-1)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (p *Provider) dialOne(ctx context.Context, network, address string, last bool) (net.Conn, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attempt)
		defer cancel()
	}
	return p.cfg.Dial(ctx, network, address)
}

// addresses are those of a host that may be dialed.
func (p *Provider) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	addresses := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, literal)
	} else if addresses, err = p.resolve(ctx, host); err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, errors.New(host + " has no address")
	}
	for i, a := range addresses {
		addresses[i] = a.Unmap()
		if !p.cfg.AllowPrivateNetworks && !public(addresses[i]) {
			return nil, fmt.Errorf("%s has the address %s, which is not on the public internet; set allow_private_networks if it is right", host, a)
		}
	}
	return addresses[:min(len(addresses), maxAddresses)], nil
}

// transport makes a transport that dials as above. It asks no proxy.
func (p *Provider) transport() *http.Transport {
	return &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        p.cfg.TLS.Clone(),
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    16,
	}
}

// onceTransport is for requests that must not be sent twice: net/http repeats
// some by itself on connections that were idle, and on those of HTTP/2.
func (p *Provider) onceTransport() *http.Transport {
	t := p.transport()
	t.DisableKeepAlives = true
	t.DisableCompression = true
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	return t
}

// apiTransport is for the provider's API.
func (p *Provider) apiTransport() *http.Transport {
	t := p.transport()
	t.ForceAttemptHTTP2 = true
	return t
}
