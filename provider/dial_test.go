package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// TestPublic holds which addresses the internet routes.
func TestPublic(t *testing.T) {
	tests := map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.0": true, "192.0.1.0": true,
		"198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true, "2606:4700:4700::1111": true, "2a00:1450::1": true, "64:ff9b::808:808": true,

		"127.0.0.1": false, "127.255.255.255": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "100.127.255.255": false, "0.0.0.0": false, "0.1.2.3": false, "192.0.0.8": false, "192.0.2.1": false,
		"192.88.99.1": false, "198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:8.8.8.8": false, "::8.8.8.8": false, "fe80::1": false, "fe80::1%eth0": false,
		"2606:4700::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd12:3456::1": false, "ff02::1": false, "2001::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false, "3fff::1": false, "100::1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "5f00::1": false,
	}
	for address, want := range tests {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// guardedProvider is one at a host whose addresses and connections a test tells.
func guardedProvider(t *testing.T, resolve func(string) []string, dial func(ctx context.Context, address string) (net.Conn, error)) *Provider {
	t.Helper()
	p, err := New(Config{
		Definition: Definition{Name: "acme", TokenURL: "https://acme.example/token"},
		ClientID:   "app", ClientSecrets: []secret.Text{secret.NewText("s")},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) { return dial(ctx, address) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		var addresses []netip.Addr
		for _, a := range resolve(host) {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		if addresses == nil && host != "empty.example" {
			return nil, errors.New("no such host")
		}
		return addresses, nil
	}
	return p
}

// TestDialChecksAll holds that one address that is not public refuses the host,
// and that nothing is dialed then.
func TestDialChecksAll(t *testing.T) {
	for _, addresses := range [][]string{{"10.0.0.1"}, {"8.8.8.8", "127.0.0.1"}, {"2606:4700::1", "8.8.8.8", "::1"}, {"::ffff:10.0.0.1"}, {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "192.168.0.1"}} {
		dialed := ""
		p := guardedProvider(t, func(string) []string { return addresses }, func(_ context.Context, address string) (net.Conn, error) {
			dialed = address
			return nil, io.EOF
		})
		_, err := p.Send(t.Context(), Call{Kind: Refresh})
		e, _ := errors.AsType[*Error](err)
		if e == nil || e.Outcome != NotSent || e.Class != Transient || !strings.Contains(e.Detail, "not on the public internet") || dialed != "" {
			t.Errorf("%v: dialed %q, %v", addresses, dialed, err)
		}
	}
}

// TestDialLiterals holds that the address that was checked is dialed, so that a
// name that resolves otherwise the next time gains nothing.
func TestDialLiterals(t *testing.T) {
	times := 0
	var dialed []string
	p := guardedProvider(t, func(string) []string {
		if times++; times > 1 {
			return []string{"127.0.0.1"}
		}
		return []string{"8.8.8.8", "::ffff:8.8.4.4", "2606:4700::1", "1.1.1.1", "1.0.0.1"}
	}, func(_ context.Context, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return nil, errors.New("refused by " + address)
	})
	_, err := p.Send(t.Context(), Call{Kind: Refresh})
	if got := strings.Join(dialed, " "); got != "8.8.8.8:443 8.8.4.4:443 [2606:4700::1]:443 1.1.1.1:443" || times != 1 {
		t.Errorf("dialed %s, resolved %d times", got, times)
	}
	if e, _ := errors.AsType[*Error](err); e == nil || e.Outcome != NotSent || !strings.Contains(e.Detail, "refused by 8.8.8.8:443") {
		t.Error(err)
	}
	if _, err := p.dial(t.Context(), "tcp", "acme.example:443"); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the second time: %v", err)
	}
}

// TestDialFails are hosts to which nothing leads.
func TestDialFails(t *testing.T) {
	p := guardedProvider(t, func(string) []string { return nil }, func(context.Context, string) (net.Conn, error) {
		t.Error("dialed")
		return nil, io.EOF
	})
	for hostport, want := range map[string]string{"acme.example": "missing port", "unknown.example:443": "no such host", "empty.example:443": "no address", "127.0.0.1:443": "public internet", "[::1]:443": "public internet"} {
		if conn, err := p.dial(t.Context(), "tcp", hostport); conn != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", hostport, err)
		}
	}
}

// TestDialNext holds that an address that does not answer does not keep the
// others from being tried, and that connecting ends.
func TestDialNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		p := guardedProvider(t, func(string) []string { return []string{"8.8.8.8", "8.8.4.4"} }, func(ctx context.Context, address string) (net.Conn, error) {
			if address == "8.8.4.4:443" {
				return here, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begun := time.Now()
		if conn, err := p.dial(t.Context(), "tcp", "acme.example:443"); conn != here || err != nil || time.Since(begun) != attempt {
			t.Errorf("%v, %v after %v", conn, err, time.Since(begun))
		}
		p.resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		}
		begun = time.Now()
		if conn, err := p.dial(t.Context(), "tcp", "acme.example:443"); conn != nil || err == nil || time.Since(begun) != connectTimeout {
			t.Errorf("%v, %v after %v", conn, err, time.Since(begun))
		}
	})
}

// TestNoProxy holds that the environment's proxy is not asked.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://9.9.9.9:3128")
	t.Setenv("ALL_PROXY", "http://9.9.9.9:3128")
	var dialed []string
	p := guardedProvider(t, func(string) []string { return []string{"8.8.8.8"} }, func(_ context.Context, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return nil, io.EOF
	})
	p.Send(t.Context(), Call{Kind: Refresh})
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.acme.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := p.Transport().RoundTrip(r); err == nil {
		t.Error(resp.Status)
	}
	if got := strings.Join(dialed, " "); got != "8.8.8.8:443 8.8.8.8:443" {
		t.Error(got)
	}
}

// TestDialServerName holds that TLS asks for the host by its name.
func TestDialServerName(t *testing.T) {
	asked := make(chan string, 1)
	p := guardedProvider(t, func(string) []string { return []string{"8.8.8.8"} }, func(context.Context, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			tls.Server(there, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				asked <- hello.ServerName
				return nil, io.EOF
			}}).Handshake()
		}()
		return here, nil
	})
	_, err := p.Send(t.Context(), Call{Kind: Refresh})
	if e, _ := errors.AsType[*Error](err); e == nil || e.Outcome != NotSent {
		t.Error(err)
	}
	if name := <-asked; name != "acme.example" {
		t.Errorf("asked for %q", name)
	}
}
