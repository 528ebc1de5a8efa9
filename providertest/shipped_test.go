package providertest

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// simulated are the shipped definitions whose provider there is a simulator of.
// What simulators tell of hosts must fit the patterns of params, and both
// providers with Basic document that credentials are not encoded first.
func simulated() map[string]Dialect {
	salesforce, zoho, quickbooks, xero, bshaffer := Salesforce(), Zoho(), QuickBooks(), Xero(), Bshaffer()
	xero.ClientAuth = []provider.ClientAuth{provider.AuthBasicRaw}
	quickbooks.ClientAuth = xero.ClientAuth
	salesforce.Answer = strings.ReplaceAll(salesforce.Answer, `"instance_url":"{base}"`, `"instance_url":"https://acme.my.salesforce.com"`)
	zoho.Answer = strings.ReplaceAll(zoho.Answer, `"api_domain":"{base}"`, `"api_domain":"https://www.zohoapis.eu"`)
	zoho.Redirect = map[string]string{"accounts-server": "https://accounts.zoho.eu", "location": "eu"}
	quickbooks.Redirect = map[string]string{"realmId": "123145674567890"}
	bshaffer.OneShot = false
	return map[string]Dialect{
		"tink": Tink(), "eventix": Eventix(), "flexiti": Flexiti(), "google": Google(), "github": GitHub(), "xero": xero, "slack": Slack(), "withings": Withings(),
		"salesforce": salesforce, "zoho": zoho, "quickbooks": quickbooks, "facebook": Meta(), "fosoauthserver": FOS(), "bshaffer": bshaffer,
	}
}

// shipped is a shipped definition that talks to the simulator of its provider,
// under the provider's own paths.
type shipped struct {
	*testing.T
	conformance
	dialect Dialect
	sim     *Simulator
	routes  map[string]string // URL → path of the simulator

	clock  sync.Mutex
	at     time.Time
	tokens provider.Tokens // the latest
}

func ship(t *testing.T, name string, d Dialect) *shipped {
	t.Helper()
	script := transcript(t, name)
	s := &shipped{T: t, dialect: d, at: began, routes: map[string]string{}}
	s.conformance = conformance{definition: definition(t, name), transcript: &script, now: s.time}
	var stop func()
	s.base, stop = Listen(s)
	t.Cleanup(stop)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	s.sim = New(d, Options{ClientID: s.words["ID"], ClientSecret: s.words["SECRET"], RedirectURIs: []string{s.words["REDIRECT"]}, Consent: Allow, Now: s.time})
	s.sim.owners[s.words["OWNER"]] = true
	s.route(script.Authorize, AuthorizePath)
	s.route(script.Revoke, RevokePath)
	for _, turn := range []*Turn{script.Exchange, script.Refresh, script.ClientCredentials} {
		if turn != nil {
			s.route(turn.Request, TokenPath)
		}
	}
	for _, turn := range script.Remint {
		if d.Mint != nil && strings.Contains(turn.Request, MintPath) {
			s.route(turn.Request, MintPath)
		}
	}
	return s
}

// route leads a request that is written in the transcript to the simulator.
func (s *shipped) route(written, path string) {
	first, _, _ := split(written)
	if _, target, ok := strings.Cut(first, " "); ok {
		address, _, _ := strings.Cut(s.words.in(target), "?")
		s.routes[address] = path
	}
}

// ServeHTTP answers at the provider's paths, and nowhere else.
func (s *shipped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	where := s.base + r.URL.EscapedPath()
	if s.elsewhere {
		where = came(r)
	}
	path, ok := s.routes[where]
	if first, _, _ := split(s.words.in(s.transcript.API)); !ok && s.transcript.API != "" && first == "GET "+where {
		path, ok = MePath, true
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	r.URL.Path, r.URL.RawPath = path, ""
	s.sim.ServeHTTP(w, r)
}

func (s *shipped) time() time.Time {
	s.clock.Lock()
	defer s.clock.Unlock()
	return s.at
}

func (s *shipped) pass(d time.Duration) {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.at = s.at.Add(d)
}

// send makes a call with tokens of the connection.
func (s *shipped) send(kind provider.Kind, with provider.Tokens) (provider.Tokens, error) {
	s.Helper()
	call := s.call(kind)
	call.AccessToken, call.RefreshToken = with.AccessToken, with.RefreshToken
	answer, err := s.provider.Send(s.Context(), call)
	if err != nil {
		return provider.Tokens{}, err
	}
	return s.provider.Read(answer)
}

// good is send, which must succeed. The answer may keep the refresh token.
func (s *shipped) good(kind provider.Kind, with provider.Tokens) provider.Tokens {
	s.Helper()
	tokens, err := s.send(kind, with)
	if err != nil {
		s.Fatalf("%s: %v", kind, err)
	}
	if tokens.RefreshToken.Empty() {
		tokens.RefreshToken = with.RefreshToken
	}
	s.tokens = tokens
	return tokens
}

// refused is a refresh that must be refused in one of some ways.
func (s *shipped) refused(with provider.Tokens, classes ...provider.Class) {
	s.Helper()
	_, err := s.send(provider.Refresh, with)
	e, ok := errors.AsType[*provider.Error](err)
	for _, class := range classes {
		if ok && e.Class == class && e.Outcome == provider.Refused {
			return
		}
	}
	s.Errorf("the refresh came out as %v, not %v", err, classes)
}

// connected begins a connection as its owner does.
func (s *shipped) connected() *shipped {
	s.Helper()
	switch {
	case s.transcript.Authorize != "":
		s.consent()
	case s.definition.Grant == oauth.GrantClientCredentials:
		s.good(provider.ClientCredentials, provider.Tokens{})
	default:
		s.good(provider.Reminting, provider.Tokens{})
	}
	return s
}

func (s *shipped) consent() {
	s.Helper()
	target, err := s.provider.AuthorizeURL(s.Context(), provider.Authorization{State: "s1", Challenge: s.words["CHALLENGE"], Params: s.params})
	if err != nil {
		s.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, target, nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		s.Fatal(err)
	}
	resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" || back.Query().Get("state") != "s1" {
		s.Fatalf("%s gave %d and %q", target, resp.StatusCode, resp.Header.Get("Location"))
	}
	told, _, err := s.provider.Redirected(back.Query())
	if err != nil {
		s.Fatal(err)
	}
	s.know(told)
	s.words["CODE"] = back.Query().Get("code")
	s.know(s.good(provider.Exchange, provider.Tokens{}).Params)
}

func (s *shipped) grant() Grant { return s.sim.Grant(s.sim.GrantOf(s.tokens.AccessToken.Reveal())) }

// shippedDefinitions runs a test for each definition that can be simulated.
func shippedDefinitions(t *testing.T, test func(s *shipped)) {
	for name, d := range simulated() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(ship(t, name, d))
		})
	}
}

// TestShippedLife connects and refreshes with each definition.
func TestShippedLife(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		first := s.connected().tokens
		if alive, known := s.provider.Alive(s.Context(), s.callWith(first)); known && !alive {
			s.Error("the new access token is dead at the API")
		}
		s.pass(time.Minute)
		second := s.good(provider.Refresh, first)
		if second.AccessToken.Equal(first.AccessToken.Reveal()) && s.dialect.AccessLife > 0 {
			s.Error("the refresh gave the old access token")
		}
		if rotated := !second.RefreshToken.Equal(first.RefreshToken.Reveal()); rotated != rotates(s.provider.Definition().RefreshToken.Rotation) && s.dialect.ChangeEvery == 0 {
			s.Errorf("the refresh token changed: %v, and rotation is %s", rotated, s.provider.Definition().RefreshToken.Rotation)
		}
		life := cmp.Or(time.Duration(s.definition.AccessToken.Lifetime), s.dialect.AccessLife)
		if strings.Contains(cmp.Or(s.dialect.Answer, plainAnswer), "expires_in") {
			life = s.dialect.AccessLife
		}
		if want := s.time().Add(life); !second.ExpiresAt.Equal(want) {
			s.Errorf("the access token ends at %s, not %s", second.ExpiresAt, want)
		}
		if alive := s.sim.Alive(first.AccessToken.Reveal()); alive && s.definition.AccessToken.OneAtATime {
			s.Error("the access token before lives, and there is one at a time")
		}
	})
}

func (s *shipped) callWith(tokens provider.Tokens) provider.Call {
	call := s.call(provider.Refresh)
	call.AccessToken, call.RefreshToken = tokens.AccessToken, tokens.RefreshToken
	return call
}

// TestShippedReplay presents a refresh token again whose answer was not used.
func TestShippedReplay(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		known := s.provider.Definition().RefreshToken
		window := time.Duration(known.ReplayWindow)
		promised := !rotates(known.Rotation) || window > 0
		first := s.connected().tokens
		s.good(provider.Refresh, first)
		s.pass(max(0, window-time.Minute))
		if promised {
			s.good(provider.Refresh, first)
		}
		if !rotates(known.Rotation) {
			return
		}
		s.pass(2 * time.Minute)
		if s.dialect.ChangeEvery > 0 {
			s.good(provider.Refresh, first) // the definition is more careful than the provider is
			return
		}
		s.refused(first, provider.Revoked, provider.RefreshTokenExpired)
	})
}

// TestShippedLostAnswer loses the answer to a refresh, and recovers by what the
// definition says.
func TestShippedLostAnswer(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		first := s.connected().tokens
		s.sim.Inject(Rule{Times: 1, Fault: DropAfter()})
		_, err := s.send(provider.Refresh, first)
		if e, ok := errors.AsType[*provider.Error](err); !ok || e.Class != provider.Ambiguous || e.Outcome != provider.Unknown {
			s.Fatalf("the lost answer is %v", err)
		}
		known := s.provider.Definition()
		switch window := known.RefreshToken.ReplayWindow; {
		case !rotates(known.RefreshToken.Rotation), window > 0, s.dialect.ChangeEvery > 0:
			s.good(provider.Refresh, first)
		case len(known.Remint.Steps) > 0:
			s.good(provider.Reminting, first)
		default:
			s.refused(first, provider.Revoked, provider.RefreshTokenExpired)
			return
		}
		if stats := s.sim.Stats(); stats.FamiliesRevoked != 0 || s.grant().State != Live {
			s.Errorf("the recovery ended %d grants", stats.FamiliesRevoked)
		}
		s.good(provider.Refresh, s.tokens)
	})
}

// TestShippedRefusals ends grants in each way, and takes the client's secret
// from it.
func TestShippedRefusals(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		first := s.connected().tokens
		s.sim.SetSecrets("another")
		if s.definition.Refresh.ClientAuth != provider.AuthNone {
			s.refused(first, provider.BadClient)
		}
		s.sim.SetSecrets(s.words["SECRET"])
		s.sim.Inject(Rule{Times: 1, Fault: Unavailable(http.StatusTooManyRequests, "7")})
		s.refused(first, provider.Throttled)
		second := s.good(provider.Refresh, first)
		s.sim.Revoke(s.grant().ID)
		s.refused(second, provider.Revoked)
	})
}

// TestShippedExpiry lets refresh tokens end by themselves.
func TestShippedExpiry(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		first, life := s.connected().tokens, s.dialect.RefreshIdle
		if life == 0 && (s.dialect.RefreshDiesWithAccess || s.dialect.AccessTokenRefreshes) {
			life = s.dialect.AccessLife
		}
		if life == 0 {
			return // they do not end
		}
		if ends := first.RefreshExpiresAt; !ends.IsZero() && ends.After(s.time().Add(life)) {
			s.Errorf("the refresh token is thought to live until %s", ends)
		}
		s.pass(life)
		s.refused(first, provider.Revoked, provider.RefreshTokenExpired)
	})
}

// TestShippedRevocation ends connections at the provider.
func TestShippedRevocation(t *testing.T) {
	shippedDefinitions(t, func(s *shipped) {
		s.connected()
		grant := s.grant().ID
		err := s.provider.Revoke(s.Context(), s.callWith(s.tokens))
		switch {
		case s.definition.RevokeURL == "":
			if !errors.Is(err, provider.ErrCannotRevoke) {
				s.Errorf("there is no endpoint, and it is %v", err)
			}
		case s.dialect.Revoke != nil:
			if err != nil || s.sim.Grant(grant).State == Live {
				s.Errorf("the grant is %s, %v", s.sim.Grant(grant).State, err)
			}
		}
	})
}

// TestZohoThrottles: what Zoho calls a denial is a throttle, and the definition
// knows how much is too much.
func TestZohoThrottles(t *testing.T) {
	s := ship(t, "zoho", simulated()["zoho"]).connected()
	limit := s.definition.Limits.Connection
	for range limit.Count {
		s.good(provider.Refresh, s.tokens)
	}
	_, err := s.send(provider.Refresh, s.tokens)
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.Class != provider.Throttled || e.RetryAfter != time.Duration(limit.Per) {
		t.Errorf("the refresh after %d is %v", limit.Count, err)
	}
	s.pass(time.Duration(limit.Per))
	s.good(provider.Refresh, s.tokens)
}

// TestTinkWithoutRefreshTokens: apps that get none are re-minted.
func TestTinkWithoutRefreshTokens(t *testing.T) {
	d := Tink()
	d.Rotation = provider.RotationNone
	s := ship(t, "tink", d).connected()
	if !s.tokens.RefreshToken.Empty() {
		t.Fatal("there is a refresh token")
	}
	s.pass(d.AccessLife)
	if again := s.good(provider.Reminting, s.tokens); again.ExpiresAt.Before(s.time()) {
		t.Errorf("the token ends at %s", again.ExpiresAt)
	}
}
