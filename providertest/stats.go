package providertest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

// Stats is what a simulator counted.
type Stats struct {
	Requests        map[provider.Kind]int
	TokenRequests   []time.Time   // when tokens were asked for, in order
	Concurrent      int           // requests for tokens at once, at most
	DoubleSpends    []DoubleSpend // in order
	FamiliesRevoked int           // grants that lived until a double spend
}

// DoubleSpend is a consumed refresh token that came again outside of its replay
// window.
type DoubleSpend struct {
	Grant      string
	Generation int // of the refresh token
	At         time.Time
	Killed     bool // a grant that lived until then
}

// Peak is how many requests for tokens came in any interval of this length, at
// most.
func (s Stats) Peak(interval time.Duration) int {
	peak, first := 0, 0
	for i, at := range s.TokenRequests {
		for at.Sub(s.TokenRequests[first]) >= interval {
			first++
		}
		peak = max(peak, i-first+1)
	}
	return peak
}

// Stats is what was counted until now.
func (s *Simulator) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Requests = maps.Clone(out.Requests)
	out.TokenRequests, out.DoubleSpends = slices.Clone(out.TokenRequests), slices.Clone(out.DoubleSpends)
	return out
}

// Grant is a grant as the provider sees it.
type Grant struct {
	ID         string
	Owner      string
	Scope      oauth.Scope
	Begun      time.Time
	State      State
	Cause      string // of its end
	Generation int    // how many times tokens were issued
	Spends     []int  // of each refresh token, oldest first: how many refreshes it gave
	Uses       int    // of its access tokens at the API
}

// Grants are all grants, oldest first.
func (s *Simulator) Grants() []Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Grant
	for _, g := range s.grants {
		show := g.Grant
		show.Spends = slices.Clone(show.Spends)
		out = append(out, show)
	}
	return out
}

// Grant is one grant; the zero Grant where there is none.
func (s *Simulator) Grant(id string) Grant {
	grants := s.Grants()
	if i := slices.IndexFunc(grants, func(g Grant) bool { return g.ID == id }); i >= 0 {
		return grants[i]
	}
	return Grant{}
}

// GrantOf is the id of the grant that a token belongs to, "" where none does.
func (s *Simulator) GrantOf(value string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[value]; t != nil && t.grant != nil {
		return t.grant.ID
	}
	return ""
}

// Alive reports whether an access token would be accepted now, or a refresh
// token would give tokens.
func (s *Simulator) Alive(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, now := s.tokens[value], s.options.Now()
	switch {
	case t == nil || !s.lives(t, now):
		return false
	case t.access:
		return true
	case over(after(t.grant.Begun, s.dialect.GrantLife), now):
		return false
	}
	return t.consumed.IsZero() || s.replayable(t, now)
}

// History is what happened to a grant, a line for each event, oldest first.
func (s *Simulator) History(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.ID == id {
			return slices.Clone(g.history)
		}
	}
	return nil
}

// Definition is the definition of the simulator's dialect as it is now, for a
// simulator that is served at a base URL.
func (s *Simulator) Definition(baseURL string) provider.Definition {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.dialect
	def := d.Definition
	def.Name, def.Title = d.Name, cmp.Or(def.Title, d.Name+" (simulated)")
	if slices.Contains(d.grants(), oauth.GrantAuthorizationCode) {
		def.AuthorizeURL = baseURL + AuthorizePath
	} else {
		def.Grant = oauth.GrantClientCredentials
	}
	def.TokenURL = baseURL + TokenPath
	if d.Revoke != nil {
		def.RevokeURL = baseURL + RevokePath
	}
	def.API.BaseURL, def.API.Check = baseURL+APIPath, "/me"
	if d.Scheme != "" {
		def.API.Authorization = d.Scheme + " {access_token}"
	}
	if len(d.Bodies) > 0 {
		def.Token.Body = d.Bodies[0]
	}
	if len(d.ClientAuth) > 0 {
		def.Token.ClientAuth = d.ClientAuth[0]
	}
	def.Authorize.ScopeSeparator = d.ScopeSeparator
	def.Limits.Rate, def.Limits.Connection = d.ClientRate, d.TokenRate
	def.AccessToken.Lifetime = cmp.Or(oauth.Lifetime(d.AccessLife), oauth.None)
	def.AccessToken.OneAtATime, def.AccessToken.NoEarlyRefresh = d.LiveAccessTokens == 1, oauth.Lifetime(d.NoEarlyRefresh)
	def.RefreshToken = provider.RefreshToken{Rotation: d.rotation(), ReplayWindow: oauth.Lifetime(d.ReplayWindow),
		IdleLifetime: oauth.Lifetime(d.RefreshIdle), Lifetime: oauth.Lifetime(d.GrantLife), DiesWithAccessToken: d.RefreshDiesWithAccess}
	def.Remint.Steps = slices.Clone(def.Remint.Steps)
	for i := range def.Remint.Steps {
		if step := &def.Remint.Steps[i]; step.URL != "" {
			step.URL = baseURL + step.URL
		}
	}
	return def
}
