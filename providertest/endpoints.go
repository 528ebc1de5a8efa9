package providertest

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
)

// token is the token endpoint.
func (s *Simulator) token(q *request) (answer, *refused) {
	d := &s.dialect
	kind := d.grantType(q)
	if no := d.understands(q); no != nil {
		return answer{}, no
	}
	if !slices.Contains(d.grants(), kind) {
		return answer{}, refuse(RefuseGrantType, "The grant type is none of %v.", d.grants())
	}
	if no := s.proven(q); no != nil {
		return answer{}, no
	}
	if wait := limited(&s.requests, d.ClientRate, q.At); wait > 0 {
		return answer{}, &refused{RefuseThrottled, "Too many requests by this client.", wait}
	}
	var out issued
	var no *refused
	switch kind {
	case oauth.GrantAuthorizationCode:
		out, no = s.redeem(q.params["code"], q.params["redirect_uri"], q.params["code_verifier"], q.At)
	case oauth.GrantRefreshToken:
		if q.params["refresh_token"] == "" {
			return answer{}, refuse(RefuseRequest, "The parameter refresh_token is missing.")
		}
		out, no = s.refresh(q.params["refresh_token"], d.scope(q.params["scope"]), q.At)
	default:
		out = s.clientToken(d.scope(q.params["scope"]), q.At)
	}
	if no != nil {
		return answer{}, no
	}
	return s.tokenAnswer(q, out), nil
}

// clientToken answers client_credentials: with a token of nobody's grant, or
// where the dialect gives refresh tokens, with the next of the client's own.
func (s *Simulator) clientToken(scope oauth.Scope, now time.Time) issued {
	if s.dialect.ClientRefresh {
		if s.clientGrant == nil || s.clientGrant.State != Live {
			s.clientGrant = s.begin("client", scope, now)
		}
		return s.first(s.clientGrant, now)
	}
	t := &token{value: s.mint("sim_at_"), access: true, scope: scope, expires: after(now, s.dialect.AccessLife)}
	s.tokens[t.value] = t
	return issued{access: t}
}

// bearing finds the access token that a request bears.
func (s *Simulator) bearing(q *request, scheme string) (*token, *refused) {
	given, value, _ := strings.Cut(q.http.Header.Get("Authorization"), " ")
	t := s.tokens[value]
	if !strings.EqualFold(given, scheme) || t == nil || !t.access || !s.lives(t, q.At) {
		return nil, refuse(RefuseToken, "The access token is missing, expired or revoked.")
	}
	return t, nil
}

// lives reports whether a token is accepted, by itself.
func (s *Simulator) lives(t *token, now time.Time) bool {
	return !t.ended && !over(t.expires, now) && (t.grant == nil || t.grant.State == Live)
}

// api is the API: it tells whose token it was called with.
func (s *Simulator) api(q *request) (answer, *refused) {
	t, no := s.bearing(q, cmp.Or(s.dialect.Scheme, oauth.Bearer))
	if no != nil {
		return answer{}, no
	}
	told := map[string]any{"method": q.http.Method, "path": q.http.URL.Path}
	if g := t.grant; g != nil {
		g.Uses++
		if !t.used {
			t.used = true
			g.tell(q.At, "access token of generation %d first used", t.generation)
		}
		maps.Copy(told, map[string]any{"owner": g.Owner, "grant": g.ID, "generation": t.generation})
	}
	return jsonAnswer(http.StatusOK, told), nil
}

// owner registers an owner for a client (Tink's user/create).
func (s *Simulator) owner(q *request) (answer, *refused) {
	if _, no := s.bearing(q, oauth.Bearer); no != nil {
		return answer{}, no
	}
	name := q.params["external_user_id"]
	switch {
	case q.problem != "" || name == "":
		return answer{}, refuse(RefuseRequest, "The external_user_id is missing. %s", q.problem)
	case s.owners[name]:
		return answer{}, refuse(RefuseTaken, "The user is there already.")
	}
	s.owners[name] = true
	return jsonAnswer(http.StatusOK, map[string]any{"user_id": ownerID(name), "external_user_id": name}), nil
}

// remint gives a code, or tokens, for an owner whom the client names.
func (s *Simulator) remint(q *request) (answer, *refused) {
	d, mint := &s.dialect, s.dialect.Mint
	if no := s.mayMint(q, mint); no != nil {
		return answer{}, no
	}
	var owner string
	for _, name := range mint.Owner {
		owner = cmp.Or(owner, strings.TrimPrefix(q.params[name], "id-"))
	}
	if !s.owners[owner] {
		return answer{}, refuse(RefuseOwner, "The user is not known.")
	}
	c := &code{owner: owner, scope: d.scope(q.params["scope"]), expires: q.At.Add(codeLife)}
	for _, g := range s.grants {
		if g.Owner == owner {
			c.grant = g
		}
	}
	if c.grant != nil && c.grant.State == Revoked {
		return answer{}, refuse(RefuseOwner, "The user revoked the access.")
	}
	if mint.Answer == "" {
		return s.tokenAnswer(q, s.follow(c, q.At)), nil
	}
	value := s.mint("sim_code_")
	s.codes[value] = c
	return d.render(q, http.StatusOK, mint.Answer, values{"code": value}), nil
}

func (s *Simulator) mayMint(q *request, mint *Mint) *refused {
	switch {
	case q.problem != "":
		return refuse(RefuseRequest, "%s", q.problem)
	case mint.ClientScope == "":
		return s.proven(q)
	}
	t, no := s.bearing(q, oauth.Bearer)
	if no == nil && (t.grant != nil || !t.scope.Covers(oauth.Scope{mint.ClientScope})) {
		return refuse(RefusePower, "The access token is not a client's with the scope %s.", mint.ClientScope)
	}
	return no
}

// revoke ends a token, and a refresh token its grant (RFC 7009).
func (s *Simulator) revoke(q *request) (answer, *refused) {
	d := &s.dialect
	if q.problem != "" || q.params["token"] == "" {
		return answer{}, refuse(RefuseRequest, "The parameter token is missing. %s", q.problem)
	}
	if !d.Revoke.Open {
		if no := s.proven(q); no != nil {
			return answer{}, no
		}
	}
	if t := s.tokens[q.params["token"]]; t != nil {
		t.ended = true
		if !t.access && !d.Revoke.Single {
			s.end(t.grant, Revoked, "by its client", q.At)
		}
	}
	if d.Revoke.Answer == "" {
		return answer{status: http.StatusOK}, nil
	}
	return d.render(q, http.StatusOK, d.Revoke.Answer, s.facts(q, nil)), nil
}

// metadata describes the simulator (RFC 8414).
func (s *Simulator) metadata(q *request) answer {
	d := &s.dialect
	m := oauth.Metadata{Issuer: q.base, TokenEndpoint: q.base + TokenPath, ResponseTypesSupported: []string{"code"},
		GrantTypesSupported: d.grants(), CodeChallengeMethodsSupported: []string{oauth.S256}, AuthorizationEndpoint: q.base + AuthorizePath,
		AuthorizationResponseIssSupported: d.Redirect["iss"] != ""}
	if d.Revoke != nil {
		m.RevocationEndpoint = q.base + RevokePath
	}
	return jsonAnswer(http.StatusOK, m)
}
