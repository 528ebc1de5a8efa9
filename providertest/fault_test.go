package providertest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// TestFaults injects each fault into one refresh and looks at what came of it:
// the answer, and whether the refresh token was spent.
func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		fault  providertest.Fault
		spent  bool
		status int // 0 where there is no answer
		check  func(b *bench, g got)
	}{
		{"none", providertest.Fault{}, true, 200, tokens},
		{"drop before", providertest.DropBefore(), false, 0, nil},
		{"drop after", providertest.DropAfter(), true, 0, nil},
		{"502 after", providertest.BadGateway(), true, 502, isHTML},
		{"page instead of tokens", providertest.Page(200), true, 200, isHTML},
		{"503", providertest.Unavailable(503, "17"), false, 503, retryAfter("17")},
		{"503 without a time", providertest.Unavailable(503, ""), false, 503, retryAfter("")},
		{"429", providertest.Unavailable(429, "Fri, 02 Jan 2026 03:05:05 GMT"), false, 429, retryAfter("Fri, 02 Jan 2026 03:05:05 GMT")},
		{"not acted", providertest.Fault{NotActed: true}, false, 503, nil},
		{"redirect", providertest.Redirect("https://elsewhere.example/token"), false, 307, func(b *bench, g got) {
			if g.header.Get("Location") != "https://elsewhere.example/token" {
				b.Errorf("the headers are %v", g.header)
			}
		}},
		{"cut to nothing", providertest.Cut(0), true, 200, broken("")},
		{"cut", providertest.Cut(12), true, 200, broken(`{"access_tok`)},
		{"cut behind its end", providertest.Cut(1 << 20), true, 200, tokens},
		{"empty", providertest.Empty(), true, 200, func(b *bench, g got) {
			if g.err != nil || g.body != "" {
				b.Errorf("the body is %q, error %v", g.body, g.err)
			}
		}},
		{"huge", providertest.Huge(20 << 20), true, 200, func(b *bench, g got) {
			if len(g.body) < 20<<20 || g.text("refresh_token") == "" {
				b.Errorf("%d bytes, error %v", len(g.body), g.err)
			}
		}},
		{"byte order mark", providertest.ByteOrderMark(), true, 200, func(b *bench, g got) {
			if !strings.HasPrefix(g.body, "\xef\xbb\xbf{") {
				b.Errorf("the body is %q", g.body)
			}
		}},
		{"text/plain", providertest.Type("text/plain"), true, 200, contentType("text/plain")},
		{"no content type", providertest.Type(""), true, 200, contentType("")},
		{"201", providertest.Fault{Status: 201}, true, 201, tokens},
		{"400 though it acted", providertest.Fault{Status: 400}, true, 400, tokens},
		{"no access token", providertest.Unset("access_token"), true, 200, field("access_token", nil)},
		{"no expiry", providertest.Unset("expires_in", "refresh_token"), true, 200, field("expires_in", nil)},
		{"number as token", providertest.Set("access_token", 12345), true, 200, field("access_token", 12345.0)},
		{"token type null", providertest.Set("token_type", nil), true, 200, field("token_type", nil)},
		{"error beside tokens", providertest.Set("error", map[string]any{}), true, 200, field("error", map[string]any{})},
		{"expires_in text", providertest.Set("expires_in", "{text:expires_in}"), true, 200, field("expires_in", "3600")},
		{"expires_in fraction", providertest.Set("expires_in", 3599.5), true, 200, field("expires_in", 3599.5)},
		{"expires_in exponent", providertest.Set("expires_in", json.RawMessage("3.6e3")), true, 200, func(b *bench, g got) {
			if !strings.Contains(g.body, `"expires_in":3.6e3`) {
				b.Errorf("the body is %s", g.body)
			}
		}},
		{"expires_in empty", providertest.Set("expires_in", ""), true, 200, field("expires_in", "")},
		{"expires_in milliseconds", providertest.Set("expires_in", "{expires_ms}"), true, 200, field("expires_in", 3600000.0)},
		{"expires_in absolute", providertest.Set("expires_in", "{expires_at}"), true, 200, field("expires_in", float64(began.Add(time.Hour).Unix()))},
		{"expires_at milliseconds", providertest.Set("expires_at", "{expires_at_ms}"), true, 200, field("expires_at", float64(began.Add(time.Hour).UnixMilli()))},
		{"expires_at date", providertest.Set("expires_at", "{expires_at_rfc3339}"), true, 200, field("expires_at", "2026-01-02T04:04:05Z")},
		{"expires HTTP date", providertest.Set("expires", "{expires_at_http}"), true, 200, field("expires", "Fri, 02 Jan 2026 04:04:05 GMT")},
		{"expiry clock", providertest.Set("expiry", "{expires_clock}"), true, 200, field("expiry", "0:01:00")},
		{"text around a name", providertest.Set("note", "for {owner} until {refresh_expires_at_http}{nothing}."), true, 200,
			field("note", "for alice until Fri, 16 Jan 2026 03:04:05 GMT.")},
		{"body of one's own", providertest.Fault{Body: func(body []byte) []byte { return []byte("[" + string(body) + "]") }}, true, 200, func(b *bench, g got) {
			if !strings.HasPrefix(g.body, `[{"access_token"`) {
				b.Errorf("the body is %s", g.body)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, providertest.Plain())
			grant, _, refresh := b.connect("alice")
			b.sim.Inject(providertest.Rule{Times: 1, Fault: test.fault})
			g := b.refresh(refresh)
			if g.status != test.status || test.status == 0 && !errors.Is(g.err, io.EOF) {
				t.Errorf("status %d, error %v, %.200s", g.status, g.err, g.body)
			}
			if test.check != nil {
				test.check(b, g)
			}
			if spent := b.sim.Grant(grant).Spends[0] == 1; spent != test.spent || b.sim.Alive(refresh) == test.spent {
				t.Errorf("the refresh token was spent: %t", spent)
			}
			if !test.spent {
				b.refreshed(refresh) // the fault is over
			}
		})
	}
}

func tokens(b *bench, g got) {
	if g.err != nil || g.text("access_token") == "" || g.text("refresh_token") == "" {
		b.Errorf("no tokens: %v %s", g.err, g.body)
	}
}

func isHTML(b *bench, g got) {
	if !strings.HasPrefix(g.body, "<!doctype html>") || !strings.HasPrefix(g.header.Get("Content-Type"), "text/html") || strings.Contains(g.body, "sim_") {
		b.Errorf("no page: %v %s", g.header, g.body)
	}
}

func retryAfter(value string) func(*bench, got) {
	return func(b *bench, g got) {
		if is, there := g.header["Retry-After"]; g.header.Get("Retry-After") != value || there != (value != "") {
			b.Errorf("Retry-After is %q", is)
		}
	}
}

func contentType(value string) func(*bench, got) {
	return func(b *bench, g got) {
		tokens(b, g)
		if is := g.header.Get("Content-Type"); is != value {
			b.Errorf("the content type is %q", is)
		}
	}
}

func broken(body string) func(*bench, got) {
	return func(b *bench, g got) {
		if !errors.Is(g.err, io.ErrUnexpectedEOF) || g.body != body {
			b.Errorf("the body is %q, error %v", g.body, g.err)
		}
	}
}

func field(path string, value any) func(*bench, got) {
	return func(b *bench, g got) {
		if is := g.at(path); !reflect.DeepEqual(is, value) {
			b.Errorf("%s is %v (%T), want %v", path, is, is, value)
		}
	}
}

// TestFaultsInEnvelopes finds fields wherever they stand.
func TestFaultsInEnvelopes(t *testing.T) {
	b := serve(t, providertest.Withings())
	_, _, refresh := b.connect("alice")
	send := func(fault providertest.Fault) got {
		b.sim.Inject(providertest.Rule{Times: 1, Fault: fault})
		return b.refresh(refresh, "action", "requesttoken")
	}
	b.want(send(providertest.Set("expires_in", "10800")), 200, "body.expires_in", "10800")
	b.want(send(providertest.Unset("body")), 200, "body", nil)
	g := send(providertest.Unset("refresh_token"))
	if g.text("body.access_token") == "" || g.at("body.refresh_token") != nil {
		t.Errorf("answered %s", g.body)
	}
	b.sim.Change(func(d *providertest.Dialect) {
		d.Answer = `{"list":[{"access_token":"{access_token}"}],"scopes":"{scope_list}","at":"{issued_at}","gone":["{nothing}"]}`
	})
	g = send(providertest.Set("access_token", 1))
	if !strings.Contains(g.body, `"list":[{"access_token":1}]`) || !strings.Contains(g.body, `"gone":[]`) {
		t.Errorf("answered %s", g.body)
	}
}

func TestFaultsInFailures(t *testing.T) {
	b := serve(t, providertest.Plain())
	b.sim.Inject(providertest.Rule{Fault: providertest.Fault{Status: 403, Set: map[string]any{"error": "odd"}, Unset: []string{"error_description"}}})
	g := b.refresh("x")
	b.want(g, 403, "error", "odd")
	b.want(g, 403, "error_description", nil)
}

func TestShape(t *testing.T) {
	d := providertest.Plain()
	d.Shape = func(answer any) any {
		inner, _ := json.Marshal(answer)
		return map[string]any{"data": string(inner)}
	}
	b := serve(t, d)
	_, _, refresh := b.connect("alice")
	if g := b.refresh(refresh); !strings.HasPrefix(g.text("data"), `{"access_token":"sim_at_`) {
		t.Errorf("answered %s", g.body)
	}
	b.want(b.refresh("x"), 400, "error", "invalid_grant")
}

// TestRules is which requests a fault comes to.
func TestRules(t *testing.T) {
	b := serve(t, providertest.Plain())
	one, access, refresh := b.connect("alice")
	_, _, other := b.connect("bob")
	outage := providertest.Unavailable(503, "")

	b.sim.Inject(providertest.Rule{Times: 2, Fault: outage})
	b.want(b.me(access), 200, "owner", "alice") // asks for no tokens
	b.want(b.refresh(refresh), 503, "", nil)
	b.want(b.token("grant_type", "client_credentials"), 503, "", nil)
	refresh = b.refreshed(refresh).text("refresh_token")

	b.sim.Inject(providertest.Rule{Grant: one, Fault: outage})
	b.want(b.refresh(refresh), 503, "", nil)
	other = b.refreshed(other).text("refresh_token")
	b.sim.Clear()
	refresh = b.refreshed(refresh).text("refresh_token")

	b.sim.Inject(providertest.Rule{Kind: provider.Exchange, Fault: outage})
	b.sim.Inject(providertest.Rule{Kind: providertest.KindAPI, Fault: providertest.Page(500)})
	refresh = b.refreshed(refresh).text("refresh_token")
	b.want(b.me(access), 500, "", nil)
	b.want(b.token("grant_type", "authorization_code", "code", "x"), 503, "", nil)
	b.sim.Clear()

	// The first rule that fits counts, and the next when it is used up.
	b.sim.Inject(providertest.Rule{Times: 1, Fault: outage})
	b.sim.Inject(providertest.Rule{Times: 1, Fault: providertest.Unavailable(429, "1")})
	b.want(b.refresh(refresh), 503, "", nil)
	b.want(b.refresh(refresh), 429, "", nil)
	b.refreshed(refresh)

	// Pick sees what a request is, and may let it pass.
	var seen []providertest.Request
	b.sim.Inject(providertest.Rule{Times: 1, Pick: func(q providertest.Request) (providertest.Fault, bool) {
		seen = append(seen, q)
		return outage, q.Number%2 == 0
	}})
	refused, asked := 0, b.sim.Stats().Requests[provider.Refresh]
	for range 4 {
		g := b.refresh(other)
		if g.status == 503 {
			refused++
			continue
		}
		other = g.text("refresh_token")
	}
	if refused != 1 || len(seen) != 2-asked%2 { // the even ones are refused
		t.Errorf("%d refused after %d requests, seen: %+v", refused, asked, seen)
	}
	if seen[0] != (providertest.Request{Kind: provider.Refresh, Number: asked + 1, Grant: b.sim.GrantOf(other), At: began}) {
		t.Errorf("seen: %+v", seen)
	}
}

// TestDown is a provider that does not answer at all for a while.
func TestDown(t *testing.T) {
	b := serve(t, providertest.Plain())
	_, access, refresh := b.connect("alice")
	b.sim.Inject(providertest.Rule{Kind: providertest.Everything, Until: began.Add(time.Hour), Fault: providertest.DropBefore()})
	down := func() bool {
		b.Helper()
		_, noPage := b.do(b.request("GET", providertest.AuthorizePath, "", "")), b.do(b.request("GET", "/elsewhere", "", ""))
		return b.me(access).err != nil && b.refresh(refresh).err != nil && noPage.err != nil
	}
	if !down() {
		t.Error("it answers")
	}
	b.pass(time.Hour - time.Nanosecond)
	if !down() {
		t.Error("it answers before the end")
	}
	b.pass(time.Nanosecond)
	b.want(b.refresh(refresh), 200, "token_type", "Bearer")
}

// TestLatency passes the simulated time through the sleep that is given.
func TestLatency(t *testing.T) {
	var slept []time.Duration
	var b *bench
	b = serveWith(t, providertest.Plain(), providertest.Options{Sleep: func(d time.Duration) {
		slept = append(slept, d)
		b.pass(d)
	}})
	_, _, refresh := b.connect("alice")
	b.sim.Inject(providertest.Rule{Fault: providertest.Fault{Latency: time.Minute, AnswerLatency: time.Hour}})
	g := b.refreshed(refresh)
	if !reflect.DeepEqual(slept, []time.Duration{time.Minute, time.Hour}) || b.now() != began.Add(time.Hour+time.Minute) {
		t.Errorf("slept %v", slept)
	}
	// It lives from when the provider acted, after the first latency.
	if b.pass(-time.Nanosecond); !b.sim.Alive(g.text("access_token")) {
		t.Error("the access token does not live for an hour")
	}
	if b.pass(time.Nanosecond); b.sim.Alive(g.text("access_token")) {
		t.Error("the access token lives for more than an hour")
	}
}

// TestBeforeAndAfter blocks a request on both sides of what it asks for.
func TestBeforeAndAfter(t *testing.T) {
	b := serve(t, providertest.Plain())
	grant, _, refresh := b.connect("alice")
	generation := func() int { return b.sim.Grant(grant).Generation }
	before, after := make(chan int), make(chan int)
	b.sim.Inject(providertest.Rule{Fault: providertest.Fault{
		Before: func() { before <- generation() },
		After:  func() { after <- generation() },
	}})
	done := make(chan got)
	go func() { done <- b.refresh(refresh) }()
	if n := <-before; n != 1 {
		t.Errorf("before it acted the generation is %d", n)
	}
	if n := <-after; n != 2 {
		t.Errorf("after it acted the generation is %d", n)
	}
	b.want(<-done, http.StatusOK, "token_type", "Bearer")
}
