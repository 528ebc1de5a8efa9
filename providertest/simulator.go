// Package providertest simulates the authorization servers of providers, in
// process: each speaks the dialect of one provider, keeps its grants in memory,
// fails as it is told to, and counts what a keeper must never do. Tokens begin
// with sim_at_ and sim_rt_, so that a search finds those that leaked.
package providertest

import (
	"cmp"
	"encoding/base64"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
)

// Options are what a simulator is made of. The zero value works.
type Options struct {
	ClientID     string // sim-client where ""
	ClientSecret string // sim-secret where ""
	RedirectURIs []string
	Consent      Consent
	Now          func() time.Time    // time.Now where nil
	Sleep        func(time.Duration) // time.Sleep where nil
	Log          *slog.Logger        // a line for each request, without tokens; none where nil
}

// Simulator is the authorization server of a provider, and a little API behind
// it. It is safe for concurrent use.
type Simulator struct {
	options Options

	mu          sync.Mutex
	dialect     Dialect
	consent     Consent
	secrets     []secret.Text
	rules       []*Rule
	grants      []*grant
	tokens      map[string]*token
	codes       map[string]*code
	owners      map[string]bool
	clientGrant *grant // of the client itself, where client_credentials gives refresh tokens
	requests    []time.Time
	inFlight    int
	stats       Stats
}

// New makes a simulator of a dialect.
func New(dialect Dialect, options Options) *Simulator {
	options.ClientID = cmp.Or(options.ClientID, "sim-client")
	options.ClientSecret = cmp.Or(options.ClientSecret, "sim-secret")
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Sleep == nil {
		options.Sleep = time.Sleep
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Simulator{
		options: options, dialect: dialect, consent: options.Consent,
		secrets: []secret.Text{secret.NewText(options.ClientSecret)},
		tokens:  map[string]*token{}, codes: map[string]*code{}, owners: map[string]bool{},
		stats: Stats{Requests: map[provider.Kind]int{}},
	}
}

// Change changes the dialect from now on: rotation, lifetimes, limits, whatever
// a provider may change while connections live.
func (s *Simulator) Change(change func(*Dialect)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.dialect)
}

// SetSecrets changes the client secrets that are accepted.
func (s *Simulator) SetSecrets(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = nil
	for _, text := range secrets {
		s.secrets = append(s.secrets, secret.NewText(text))
	}
}

// Connect makes a grant of an owner and its first tokens, as somebody who
// imports them has them. It returns the id of the grant, too.
func (s *Simulator) Connect(owner string, scope ...string) (string, provider.Tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Now()
	g := s.begin(owner, scope, now)
	if s.dialect.ClientRefresh {
		s.clientGrant = g
	}
	out := s.first(g, now)
	tokens := provider.Tokens{AccessToken: secret.NewText(out.access.value), TokenType: oauth.Bearer, Scope: g.Scope, ExpiresAt: out.access.expires}
	if out.refresh != nil {
		tokens.RefreshToken, tokens.RefreshExpiresAt = secret.NewText(out.refresh.value), out.refresh.expires
	}
	return g.ID, tokens
}

// Revoke ends a grant, as its owner does at the provider.
func (s *Simulator) Revoke(grant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.ID == grant {
			s.end(g, Revoked, "by its owner", s.options.Now())
		}
	}
}

// ServeHTTP answers as the provider does, or as a fault has it.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := readRequest(r)
	done := s.arrive(q)
	defer done()
	s.options.Sleep(q.fault.Latency)
	call(q.fault.Before)
	a := answer{status: http.StatusServiceUnavailable}
	if !q.fault.NotActed {
		a = s.act(q)
	}
	s.options.Sleep(q.fault.AnswerLatency)
	call(q.fault.After)
	s.options.Log.Info("provider", "kind", q.Kind, "grant", q.Grant, "status", cmp.Or(q.fault.Status, a.status), "acted", !q.fault.NotActed, "dropped", q.fault.Drop)
	q.fault.send(w, a)
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// arrive counts a request and finds out what is to go wrong with it. done is
// called when it is answered.
func (s *Simulator) arrive(q *request) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.At = s.options.Now()
	q.Kind = s.classify(q)
	q.Grant = s.grantOf(q)
	s.stats.Requests[q.Kind]++
	q.Number = s.stats.Requests[q.Kind]
	q.fault = s.fault(q.Request)
	if !forTokens(q.Kind) {
		return func() {}
	}
	s.stats.TokenRequests = append(s.stats.TokenRequests, q.At)
	s.inFlight++
	s.stats.Concurrent = max(s.stats.Concurrent, s.inFlight)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight--
	}
}

// act does what a request asks for.
func (s *Simulator) act(q *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.At = s.options.Now() // which latency may have moved
	var a answer
	var no *refused
	switch q.Kind {
	case KindAuthorize:
		return s.authorize(q)
	case KindMetadata:
		return s.metadata(q)
	case KindAPI:
		a, no = s.api(q)
	case KindOwner:
		a, no = s.owner(q)
	case KindRevoke:
		a, no = s.revoke(q)
	case KindOther:
		return answer{status: http.StatusNotFound}
	case provider.Reminting:
		a, no = s.remint(q)
	default:
		a, no = s.token(q)
	}
	if no != nil {
		return s.dialect.failure(q, no)
	}
	return a
}

// classify says what a request is for. It holds the mutex.
func (s *Simulator) classify(q *request) provider.Kind {
	d, at := &s.dialect, path.Clean(q.http.URL.Path)
	switch {
	case at == AuthorizePath:
		return KindAuthorize
	case at == TokenPath || strings.HasPrefix(at, TokenPath+"/"):
		d.standardize(q)
		return cmp.Or(map[string]provider.Kind{
			oauth.GrantAuthorizationCode: provider.Exchange, oauth.GrantRefreshToken: provider.Refresh, oauth.GrantClientCredentials: provider.ClientCredentials,
		}[d.grantType(q)], KindToken)
	case at == APIPath || strings.HasPrefix(at, APIPath+"/"):
		return KindAPI
	case at == RevokePath && d.Revoke != nil:
		d.standardize(q)
		return KindRevoke
	case at == MintPath && d.Mint != nil:
		return provider.Reminting
	case at == OwnersPath && d.Owners:
		return KindOwner
	case slices.Contains([]string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"}, at):
		return KindMetadata
	}
	return KindOther
}

// grantOf is the grant that a request is about, "" where it names none that is
// known. It holds the mutex.
func (s *Simulator) grantOf(q *request) string {
	for _, value := range []string{q.params["refresh_token"], q.params["token"], bearer(q)} {
		if t := s.tokens[value]; t != nil && t.grant != nil {
			return t.grant.ID
		}
	}
	if c := s.codes[q.params["code"]]; c != nil && c.grant != nil {
		return c.grant.ID
	}
	if q.Kind == provider.ClientCredentials && s.clientGrant != nil {
		return s.clientGrant.ID
	}
	return ""
}

// bearer is the token in the Authorization header, whatever its scheme.
func bearer(q *request) string {
	_, token, _ := strings.Cut(q.http.Header.Get("Authorization"), " ")
	return token
}

// randomText is n random characters that need no escaping anywhere.
func randomText(n int) string {
	return base64.RawURLEncoding.EncodeToString(secret.Bytes(n))[:n]
}
