package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// began is when everything in a transcript happens.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Conform holds a definition against a transcript and says in what it differs.
// It sends every request of the transcript by real HTTP to a server of its own,
// as the definition writes it, and reads the answers: connect, refresh, re-mint,
// revoke, a call of the API, each error. Besides, answers get lost, break off,
// and come from a gateway. Nothing differs where the result is empty.
func Conform(ctx context.Context, d provider.Definition, t Transcript) []string {
	c := &conformance{definition: d, transcript: &t, now: func() time.Time { return began }}
	var stop func()
	c.base, stop = Listen(http.HandlerFunc(c.serve))
	defer stop()
	if err := c.open(); err != nil {
		return []string{err.Error()}
	}
	c.authorize(ctx)
	c.connect(ctx)
	c.turn(ctx, provider.Refresh, t.Refresh)
	c.remint(ctx)
	c.revoke(ctx)
	c.api(ctx)
	c.failures(ctx)
	c.faults(ctx)
	c.needed()
	return c.found
}

// conformance is one run of Conform.
type conformance struct {
	definition provider.Definition
	transcript *Transcript
	now        func() time.Time
	base       string
	words      words
	original   *provider.Provider // for what is not sent
	provider   *provider.Provider // whose URLs lead to the server
	elsewhere  bool               // they are changed for that
	params     map[string]string  // of the connection
	found      []string

	mu      sync.Mutex
	replies []reply // in order
	heard   []heard
}

// reply is what the server answers next.
type reply struct {
	answer
	fault Fault
}

// heard is a request that the server got, as if it was the provider's.
type heard struct {
	method, url string
	query       url.Values
	header      http.Header
	body        []byte
}

func (c *conformance) differ(where, format string, args ...any) {
	c.found = append(c.found, where+": "+fmt.Sprintf(format, args...))
}

// open registers an app, whose id and secret need escaping wherever they stand.
func (c *conformance) open() error {
	verifier := strings.Repeat("v", 43)
	c.words = words{
		"ID": "client+1/a=b", "SECRET": "s&cret %2f=+:?", "REDIRECT": "https://app.example/connect/callback?x=1", "BASE": c.base, "OWNER": "owner@example.com",
		"STATE": "state 1", "CHALLENGE": oauth.Challenge(verifier), "VERIFIER": verifier, "CODE": "code/1+2",
		"ACCESS": "access+1/2=", "REFRESH": "refresh+1/2=", "A": "new+access/2=", "R": "new+refresh/2=",
	}
	with := map[string]string{}
	c.elsewhere = true
	for name, value := range c.transcript.With {
		with[name] = c.words.in(value)
		c.elsewhere = c.elsewhere && !strings.Contains(value, "$BASE")
	}
	var err error
	if c.original, err = c.register(c.definition, nil); err != nil {
		return err
	}
	c.params, err = c.original.CheckParams(with)
	if err != nil { // those that decide where secrets go are the registration's
		if c.original, err = c.register(c.definition, with); err == nil {
			c.params, err = c.original.CheckParams(with)
		}
	}
	if err != nil {
		return err
	}
	c.provider = c.original
	if c.elsewhere {
		c.provider, err = c.register(led(c.definition, c.base), nil)
	}
	return err
}

func (c *conformance) register(d provider.Definition, params map[string]string) (*provider.Provider, error) {
	return provider.New(provider.Config{
		Definition: d, ClientID: c.words["ID"], ClientSecrets: []secret.Text{secret.NewText(c.words["SECRET"])}, RedirectURI: c.words["REDIRECT"],
		Scopes: oauth.Scope{"first", "second"}, Params: params, AllowPrivateNetworks: true, Now: c.now,
	})
}

// led is a definition whose URLs lead to a server: their host becomes the first
// part of the path.
func led(d provider.Definition, base string) provider.Definition {
	lead := func(template *string) {
		if *template != "" {
			*template = base + "/" + strings.TrimPrefix(*template, "https://")
		}
	}
	d.Remint.Steps = slices.Clone(d.Remint.Steps)
	for i := range d.Remint.Steps {
		lead(&d.Remint.Steps[i].URL)
	}
	for _, template := range []*string{&d.AuthorizeURL, &d.TokenURL, &d.RevokeURL, &d.Exchange.URL, &d.Refresh.URL, &d.ClientCredentials.URL, &d.Revoke.URL, &d.API.BaseURL} {
		lead(template)
	}
	return d
}

// came is where a request to a led URL would have gone.
func came(r *http.Request) string {
	host, path, deeper := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if plain, err := url.PathUnescape(host); err == nil {
		host = plain
	}
	if !strings.HasPrefix(host, "https://") {
		host = "https://" + host
	}
	if deeper {
		return host + "/" + path
	}
	return host
}

// serve notes a request and gives the next reply.
func (c *conformance) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/.well-known/") {
		Fault{}.send(w, content(http.StatusOK, "application/json", []byte(c.words.in(c.transcript.Metadata))))
		return
	}
	body, _ := io.ReadAll(r.Body) // what is missing is found by what it should have been
	got := heard{r.Method, c.base + r.URL.EscapedPath(), r.URL.Query(), r.Header, body}
	if c.elsewhere {
		got.url = came(r)
	}
	c.mu.Lock()
	c.heard = append(c.heard, got)
	next := reply{answer: content(http.StatusTeapot, "text/plain", nil)}
	if len(c.replies) > 0 {
		next, c.replies = c.replies[0], c.replies[1:]
	}
	c.mu.Unlock()
	next.fault.send(w, next.answer)
}

// replying lets the server answer, and forgets what it heard.
func (c *conformance) replying(replies ...reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replies, c.heard = replies, nil
}

func (c *conformance) requests() []heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard)
}

func (c *conformance) call(kind provider.Kind) provider.Call {
	call := provider.Call{Kind: kind, Params: c.params, Owner: c.words["OWNER"],
		AccessToken: secret.NewText(c.words["ACCESS"]), RefreshToken: secret.NewText(c.words["REFRESH"])}
	if kind == provider.Exchange {
		call.Code = secret.NewText(c.words["CODE"])
		if c.original.Definition().Authorize.PKCE != "none" {
			call.CodeVerifier = secret.NewText(c.words["VERIFIER"])
		}
	}
	return call
}

// authorize compares the authorization request, and what is taken from the
// redirect.
func (c *conformance) authorize(ctx context.Context) {
	t := c.transcript
	if t.Authorize == "" {
		if c.definition.AuthorizeURL != "" || c.definition.Authorize.Keep != nil {
			c.differ("authorize", "the transcript has none")
		}
		return
	}
	written, err := c.original.AuthorizeURL(ctx, provider.Authorization{State: c.words["STATE"], Challenge: c.words["CHALLENGE"], Params: c.params})
	u, parsing := url.Parse(written)
	if err = errors.Join(err, parsing); err != nil {
		c.differ("authorize", "%v", err)
		return
	}
	address, _, _ := strings.Cut(written, "?")
	for _, text := range c.words.differences(heard{method: http.MethodGet, url: address, query: u.Query()}, t.Authorize) {
		c.differ("authorize", "%s", text)
	}
	query := url.Values{"code": {c.words["CODE"]}, "state": {c.words["STATE"]}}
	for name, value := range t.Redirect {
		query.Set(name, value)
	}
	told, _, err := c.original.Redirected(query)
	if err != nil || !same(told, t.Told) {
		c.differ("redirect", "it tells %v, %v, not %v", told, err, t.Told)
	}
	c.know(t.Told)
}

// know adds params that the provider told.
func (c *conformance) know(told map[string]string) {
	c.params = maps.Clone(c.params)
	maps.Copy(c.params, told)
}

func (c *conformance) connect(ctx context.Context) {
	t := c.transcript
	if t.Exchange != nil {
		c.turn(ctx, provider.Exchange, t.Exchange)
		c.know(t.Exchange.Params)
	}
	if c.definition.Grant == oauth.GrantClientCredentials || t.ClientCredentials != nil {
		c.turn(ctx, provider.ClientCredentials, t.ClientCredentials)
	}
}

// turn sends one request for tokens and reads its answer.
func (c *conformance) turn(ctx context.Context, kind provider.Kind, t *Turn) {
	if t == nil {
		if kind != provider.Refresh || c.definition.RefreshToken.Rotation != provider.RotationNone || c.definition.Refresh.Params != nil {
			c.differ(string(kind), "the transcript has none")
		}
		return
	}
	c.steps(ctx, kind, []Turn{*t})
}

func (c *conformance) remint(ctx context.Context) {
	switch steps := c.transcript.Remint; {
	case len(steps) != len(c.definition.Remint.Steps):
		c.differ("remint", "the transcript has %d steps, not %d", len(steps), len(c.definition.Remint.Steps))
	case len(steps) > 0:
		c.steps(ctx, provider.Reminting, steps)
	}
}

// steps sends a call of one or more requests and reads what the last one gives.
func (c *conformance) steps(ctx context.Context, kind provider.Kind, turns []Turn) {
	var replies []reply
	for _, t := range turns {
		says, err := c.words.saying(t.Answer)
		if err != nil {
			c.differ(string(kind), "%v", err)
			return
		}
		replies = append(replies, reply{answer: says})
	}
	c.replying(replies...)
	answer, err := c.provider.Send(ctx, c.call(kind))
	got := c.requests()
	for i := range min(len(got), len(turns)) {
		for _, text := range c.words.differences(got[i], turns[i].Request) {
			c.differ(string(kind), "in request %d %s", i+1, text)
		}
	}
	if err != nil || len(got) != len(turns) {
		c.differ(string(kind), "%d requests were sent, not %d: %v", len(got), len(turns), err)
		return
	}
	tokens, err := c.provider.Read(answer)
	if err != nil {
		c.differ(string(kind), "the answer is read as %v", err)
		return
	}
	c.gives(string(kind), tokens, turns[len(turns)-1])
}

// gives compares what an answer gives.
func (c *conformance) gives(where string, tokens provider.Tokens, t Turn) {
	is := func(what string, got, want any) {
		if !same(got, want) {
			c.differ(where, "the answer gives the %s %v, not %v", what, got, want)
		}
	}
	marked := func(name string) string {
		if strings.Contains(t.Answer, `"$`+name+`"`) {
			return c.words[name]
		}
		return ""
	}
	ends := func(lives oauth.Lifetime) time.Time {
		if lives <= 0 {
			return time.Time{}
		}
		return lives.After(began)
	}
	is("access token", tokens.AccessToken.Reveal(), marked("A"))
	is("refresh token", tokens.RefreshToken.Reveal(), marked("R"))
	is("end of the access token", tokens.ExpiresAt, ends(t.Lives))
	is("end of the refresh token", tokens.RefreshExpiresAt, ends(t.RefreshLives))
	is("scope", tokens.Scope, oauth.Scope(t.Scope))
	is("params", tokens.Params, t.Params)
	is("metadata", tokens.Kept, t.Kept)
	extra := map[string]string{}
	for name, token := range tokens.Extra {
		extra[name] = token.Reveal()
	}
	is("further tokens", extra, t.Extra)
	switch rotation := c.definition.RefreshToken.Rotation; {
	case rotation == provider.RotationNone && !tokens.RefreshToken.Empty():
		c.differ(where, "the answer has a refresh token, and rotation is none")
	case rotates(rotation) && where == string(provider.Refresh) && tokens.RefreshToken.Empty():
		c.differ(where, "the answer has no refresh token, and rotation is %s", rotation)
	}
}

func rotates(r provider.Rotation) bool {
	return r == provider.RotationRotating || r == provider.RotationSingleUse
}

// same compares values as JSON writes them; none and empty are the same.
func same(a, b any) bool {
	if a, b := reflect.ValueOf(a), reflect.ValueOf(b); a.Kind() == b.Kind() && (a.Kind() == reflect.Map || a.Kind() == reflect.Slice) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	left, err := json.Marshal(a)
	right, other := json.Marshal(b)
	return err == nil && other == nil && string(left) == string(right)
}

func (c *conformance) revoke(ctx context.Context) {
	c.replying(reply{answer: content(http.StatusOK, "", nil)})
	err := c.provider.Revoke(ctx, c.call(""))
	switch got := c.requests(); {
	case c.transcript.Revoke == "" && errors.Is(err, provider.ErrCannotRevoke):
	case c.transcript.Revoke == "":
		c.differ("revoke", "the transcript has none")
	case err != nil || len(got) != 1:
		c.differ("revoke", "%d requests were sent: %v", len(got), err)
	default:
		for _, text := range c.words.differences(got[0], c.transcript.Revoke) {
			c.differ("revoke", "%s", text)
		}
	}
}
