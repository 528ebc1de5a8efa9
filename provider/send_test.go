package provider_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// TestSendOnce holds that whatever a server does with a request, it gets exactly
// one, and that what came of it is told truly.
func TestSendOnce(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20<<20)
	tests := []struct {
		name string
		then string // what the server writes before it closes the connection
		want provider.Answer
		err  bool // no answer: it may have been carried out
	}{
		{name: "success", then: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", want: provider.Answer{Status: 200, Body: []byte("OK")}},
		{name: "201", then: "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", want: provider.Answer{Status: 201, Body: []byte("{}")}},
		{name: "no length", then: "HTTP/1.1 200 OK\r\n\r\n{}", want: provider.Answer{Status: 200, Body: []byte("{}")}},
		{name: "HTTP/1.0", then: "HTTP/1.0 200 OK\r\n\r\n{}", want: provider.Answer{Status: 200, Body: []byte("{}")}},
		{name: "100 first", then: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", want: provider.Answer{Status: 200, Body: []byte("{}")}},
		{name: "keeps the connection", then: "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", want: provider.Answer{Status: 200, Body: []byte("{}")}},
		{name: "what Read needs of the header",
			then: "HTTP/1.1 429 No\r\nContent-Type: text/html; charset=utf-8\r\nRetry-After: 17\r\nDate: Wed, 02 Jan 2030 03:04:05 GMT\r\nContent-Length: 0\r\n\r\n",
			want: provider.Answer{Status: 429, ContentType: "text/html; charset=utf-8", RetryAfter: "17", Date: "Wed, 02 Jan 2030 03:04:05 GMT"}},
		{name: "dropped before the answer", then: "", err: true},
		{name: "dropped in the status line", then: "HTTP/1.1 2", err: true},
		{name: "dropped in the header", then: "HTTP/1.1 200 OK\r\nContent-Le", err: true},
		{name: "no HTTP", then: "SSH-2.0-OpenSSH_9.9\r\n", err: true},
		{name: "an endless header", then: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n{}", err: true},
		{name: "broken off", then: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_", want: provider.Answer{Status: 200, Body: []byte(`{"access_`), Cut: true}},
		{name: "broken off at the beginning", then: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", want: provider.Answer{Status: 200, Cut: true}},
		{name: "broken off between chunks", then: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n", want: provider.Answer{Status: 200, Body: []byte(`{"a`), Cut: true}},
		{name: "broken off in a chunk", then: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n20\r\n\":1", want: provider.Answer{Status: 200, Body: []byte(`{"a":1`), Cut: true}},
		{name: "error broken off", then: "HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\n{\"error\"", want: provider.Answer{Status: 400, Body: []byte(`{"error"`), Cut: true}},
		{name: "20 MB", then: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), want: provider.Answer{Status: 200, Body: []byte(long)}},
		{name: "40 MB", then: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", 2*len(long), long, long), want: provider.Answer{Status: 200, Body: []byte((long + long)[:32<<20]), Cut: true}},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		tests = append(tests, struct {
			name, then string
			want       provider.Answer
			err        bool
		}{name: fmt.Sprint("redirect ", status), then: fmt.Sprintf("HTTP/1.1 %d Go\r\nLocation: /token\r\nContent-Length: 0\r\n\r\n", status), want: provider.Answer{Status: status}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := listen(t, func(conn net.Conn) { io.WriteString(conn, tt.then) })
			got, err := register(t, plain(w.url)).Send(t.Context(), refresh)
			if n := w.requests.Load(); n != 1 {
				t.Errorf("the server got %d requests", n)
			}
			if tt.err {
				if e := failure(t, err); e.Outcome != provider.Unknown || e.Class != provider.Ambiguous || e.Status != 0 || e.Detail == "" {
					t.Errorf("error %v", e)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.want.Status || got.Cut != tt.want.Cut || !bytes.Equal(got.Body, tt.want.Body) ||
				got.ContentType != tt.want.ContentType || got.RetryAfter != tt.want.RetryAfter || got.Date != tt.want.Date {
				t.Errorf("got %v, content type %q, %q, %q", got, got.ContentType, got.RetryAfter, got.Date)
			}
			if got.Kind != provider.Refresh || !got.SentAt.Equal(sentAt) {
				t.Errorf("answer of %s sent at %v", got.Kind, got.SentAt)
			}
		})
	}
}

// TestSendReset is a connection that is reset after the request was read.
func TestSendReset(t *testing.T) {
	w := listen(t, func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) })
	_, err := register(t, plain(w.url)).Send(t.Context(), refresh)
	if e := failure(t, err); e.Outcome != provider.Unknown || w.requests.Load() != 1 {
		t.Errorf("%v after %d requests", e, w.requests.Load())
	}
}

// TestSendSlow holds that a server that stands still is not waited for beyond
// the context, and that what it had written by then is there.
func TestSendSlow(t *testing.T) {
	t.Parallel()
	for name, written := range map[string]string{"before the answer": "", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := listen(t, func(conn net.Conn) { io.WriteString(conn, written); hang(conn) })
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			answer, err := register(t, plain(w.url)).Send(ctx, refresh)
			if written == "" {
				if e := failure(t, err); e.Outcome != provider.Unknown {
					t.Error(e)
				}
			} else if err != nil || !answer.Cut || string(answer.Body) != `{"a` {
				t.Errorf("%v, %v", answer, err)
			}
			if n := w.requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestSendTimeout holds that the definition's own timeout ends a request.
func TestSendTimeout(t *testing.T) {
	t.Parallel()
	w := listen(t, hang)
	d := plain(w.url)
	if err := d.Limits.Timeout.UnmarshalText([]byte("200ms")); err != nil {
		t.Fatal(err)
	}
	_, err := register(t, d).Send(t.Context(), refresh)
	if e := failure(t, err); e.Outcome != provider.Unknown || e.Class != provider.Ambiguous {
		t.Error(e)
	}
}

// TestSendNotSent are failures before the first byte of a request.
func TestSendNotSent(t *testing.T) {
	t.Parallel()
	server := record(t, say(200, success))
	secure := httptest.NewUnstartedServer(server)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	soon, cancelSoon := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancelSoon)
	// told is a provider whose host is a param, which connections may be given.
	told := func(base string) provider.Definition {
		d := plain("{params.base}")
		d.Params = map[string]provider.Param{"base": {Pattern: `https?://[a-z0-9.:]+`, Default: base}}
		return d
	}
	strict := func(cfg *provider.Config) { cfg.AllowPrivateNetworks = false }
	stuck := func(cfg *provider.Config) {
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { <-t.Context().Done(); return nil, io.EOF }
	}
	tests := []struct {
		name       string
		ctx        context.Context
		definition provider.Definition
		change     func(*provider.Config)
		class      provider.Class
		detail     string
	}{
		{name: "refused", definition: plain("http://" + closed.Addr().String()), class: provider.Transient, detail: "refused"},
		{name: "certificate of nobody", definition: plain(secure.URL), class: provider.Transient, detail: "certificate"},
		{name: "no TLS there", definition: plain(strings.Replace(server.URL, "http", "https", 1)), class: provider.Transient, detail: "TLS"},
		{name: "context over", ctx: over, definition: plain(server.URL), class: provider.Transient, detail: "canceled"},
		{name: "context over while connecting", ctx: soon, definition: plain(server.URL), change: stuck, class: provider.Transient, detail: "deadline"},
		{name: "loopback", definition: plain(secure.URL), change: strict, class: provider.Transient, detail: "allow_private_networks"},
		{name: "http", definition: told(server.URL), change: strict, class: provider.BadDefinition, detail: "https"},
		{name: "host not known", definition: told(""), class: provider.BadDefinition, detail: "params.base"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			answer, err := register(t, tt.definition, func(cfg *provider.Config) {
				if tt.change != nil {
					tt.change(cfg)
				}
			}).Send(tt.ctx, refresh)
			e := failure(t, err)
			if e.Outcome != provider.NotSent || e.Class != tt.class || !strings.Contains(e.Detail, tt.detail) || answer.Status != 0 {
				t.Errorf("%v, %v", answer, e)
			}
			if n := len(server.requests()); n != 0 {
				t.Errorf("the server got %d requests", n)
			}
		})
	}
}

// TestSendTLS holds that the server is proven by the host's name although a
// literal address is dialed, and that HTTP/2, over which net/http repeats
// requests by itself, is not spoken.
func TestSendTLS(t *testing.T) {
	server := record(t, say(200, success))
	secure := httptest.NewUnstartedServer(server)
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	dialed := ""
	send := func(url string) error {
		p := register(t, plain(url), func(cfg *provider.Config) {
			cfg.TLS = &tls.Config{RootCAs: roots}
			cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dialed = address
				return (&net.Dialer{}).DialContext(ctx, network, secure.Listener.Addr().String())
			}
		})
		_, err := p.Send(t.Context(), refresh)
		return err
	}
	_, port, _ := net.SplitHostPort(secure.Listener.Addr().String())
	if err := send("https://localhost:" + port); err == nil || failure(t, err).Outcome != provider.NotSent {
		t.Errorf("a certificate for another name: %v", err)
	}
	if host, _, _ := net.SplitHostPort(dialed); host != "127.0.0.1" && host != "::1" {
		t.Errorf("dialed %q", dialed)
	}
	if err := send("https://127.0.0.1:" + port); err != nil {
		t.Fatal(err)
	}
	if got := server.requests(); len(got) != 1 || got[0].proto != 1 {
		t.Errorf("%d requests: %+v", len(got), got)
	}
}

// TestSendNewConnections holds that no connection is used twice, also where the
// server would keep it: one that a server is about to close loses requests.
func TestSendNewConnections(t *testing.T) {
	server := record(t, say(200, success))
	var connections []string
	p := register(t, plain(server.URL), func(cfg *provider.Config) {
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			connections = append(connections, address)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	for range 3 {
		if _, err := p.Send(t.Context(), refresh); err != nil {
			t.Fatal(err)
		}
	}
	if len(connections) != 3 || len(server.requests()) != 3 {
		t.Errorf("%d connections, %d requests", len(connections), len(server.requests()))
	}
	for _, got := range server.requests() {
		if got.header.Get("Connection") != "close" {
			t.Errorf("header %v", got.header)
		}
	}
}

// TestSendUnknownKind is a call that nobody can make.
func TestSendUnknownKind(t *testing.T) {
	server := record(t, say(200, success))
	_, err := register(t, plain(server.URL)).Send(t.Context(), provider.Call{Kind: "conjure"})
	if e := failure(t, err); e.Outcome != provider.NotSent || e.Class != provider.BadDefinition || len(server.requests()) != 0 {
		t.Error(e)
	}
}
