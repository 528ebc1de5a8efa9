package issuer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// allowedScope is what a client may ask for, in a slice of its own.
func (s *Server) allowedScope(c Client) oauth.Scope {
	if len(c.Scopes) > 0 {
		return slices.Clone(c.Scopes)
	}
	return slices.Sorted(maps.Keys(s.cfg.Scopes))
}

// checkReserved refuses a public client that lists a reserved scope. The error
// wraps ErrBadClient.
func (s *Server) checkReserved(c Client) error {
	for _, token := range c.Scopes {
		if _, reserved := s.cfg.Reserved[token]; reserved && c.Public() {
			return fmt.Errorf("%w %q: the scope %s needs a secret", ErrBadClient, c.ID, token)
		}
	}
	return nil
}

// checkProfile refuses a client with a profile that the server does not have, or
// a policy that is not safe. The error wraps ErrBadClient.
func (s *Server) checkProfile(c Client) error {
	if c.Profile != "" && s.cfg.Profiles[c.Profile] == nil {
		return fmt.Errorf("%w %q: there is no profile %q; write one of %s", ErrBadClient, c.ID, c.Profile,
			strings.Join(slices.Sorted(maps.Keys(s.cfg.Profiles)), ", "))
	}
	if err := s.cfg.checkUnsafe(c.Policy); err != nil {
		return fmt.Errorf("%w %q: %w", ErrBadClient, c.ID, err)
	}
	return nil
}

// requestedScope is the scope that a request for a new grant asks for: all that
// the client may have where the request names none (RFC 6749 section 3.3) and the
// profile has no other rule. The grant type is "" at the authorization endpoint.
func (s *Server) requestedScope(c *registered, grantType string, params oauth.Params) (oauth.Scope, error) {
	allowed := s.allowedScope(c.Client)
	asked, err := c.askedScope(params)
	switch {
	case err != nil:
		return nil, err
	case asked == nil && c.profile.WithoutScope != nil:
		scope, ok := c.profile.WithoutScope(grantType, allowed)
		if !ok {
			return nil, refuse(CauseScopeMissing)
		}
		return scope, nil
	case asked == nil:
		return allowed, nil
	case allowed.Covers(asked):
		return asked, nil
	case len(c.Scopes) > 0:
		return nil, refuse(CauseScopeForbidden)
	}
	return nil, refuse(CauseScopeUnknown)
}

// newGrant is a grant that begins now, at generation 1.
func (s *Server) newGrant(c *registered, subject string, scope oauth.Scope) Grant {
	now := s.cfg.now()
	grant := Grant{
		ID: NewGrantID(), ClientID: c.ID, Subject: subject, Scope: scope,
		Generation: 1, KeyID: s.cfg.Keys.Current().ID,
		CreatedAt: now, RotatedAt: now,
		EndsAt: c.policy.GrantLifetime.After(now),
	}
	grant.AccessExpiresAt = capped(c.policy.AccessTokenLifetime.After(now), grant.EndsAt)
	grant.ExpiresAt = grant.AccessExpiresAt
	if c.refreshes() {
		grant.ExpiresAt = capped(c.after(c.policy.RefreshTokenLifetime, now), grant.EndsAt)
	}
	return grant
}

// password is the password grant (RFC 6749 section 4.3): a legacy, on only for
// clients that list it (RFC 9700 section 2.4).
func (s *Server) password(ctx context.Context, c *registered, req *tokenRequest) (oauth.TokenResponse, error) {
	username, password := req.params.Get("username"), req.params.Get("password")
	if username == "" || password == "" {
		return oauth.TokenResponse{}, refuse(CauseLoginMissing)
	}
	scope, badScope := s.requestedScope(c, oauth.GrantPassword, req.params)
	if badScope != nil && !c.profile.ScopeLast {
		return oauth.TokenResponse{}, badScope
	}
	user, err := s.authenticate(ctx, c.ID, req.address, username, secret.NewText(password))
	if err == nil {
		err = badScope
	}
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	s.count(c.ID, HabitPassword)
	grant := s.newGrant(c, user.Username, scope)
	event := s.grantEvent(req, EventGrantCreated, grant, "")
	event.Detail = "password grant"
	if err := s.cfg.Store.CreateGrant(ctx, grant, event); err != nil {
		return oauth.TokenResponse{}, err
	}
	return s.answer(grant, c, scope, s.cfg.Keys.Current())
}

// clientCredentials is the client_credentials grant (RFC 6749 section 4.4). It
// has no resource owner and no refresh token, and needs no row: what the access
// token says is all there is.
func (s *Server) clientCredentials(_ context.Context, c *registered, req *tokenRequest) (oauth.TokenResponse, error) {
	if c.Public() {
		return oauth.TokenResponse{}, refuse(CauseGrantTypeForbidden)
	}
	scope, err := s.requestedScope(c, oauth.GrantClientCredentials, req.params)
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	now := s.cfg.now()
	expires := c.policy.AccessTokenLifetime.After(now)
	access, err := s.mintAccess(s.cfg.Keys.Current(), c.policy, accessClaims{
		Grant: NewGrantID(), ClientID: c.ID, Subject: c.ID, Scope: scope,
		IssuedAt: now.Unix(), ExpiresAt: expires.Unix(),
	})
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	return oauth.TokenResponse{
		AccessToken: access, TokenType: oauth.Bearer, ExpiresIn: seconds(expires.Sub(now)), Scope: scope.String(),
	}, nil
}

// grantEvent is an event about a grant, caused by a request.
func (s *Server) grantEvent(req *tokenRequest, eventType string, g Grant, cause Cause) Event {
	return Event{
		At: s.cfg.now(), Type: eventType, Grant: g.ID, ClientID: g.ClientID, Subject: g.Subject,
		Actor: req.actor, Address: req.address, Cause: cause,
	}
}

// refuseGrant refuses a genuine token that is no longer good, and notes it:
// once in a while for each grant, since a client that does not understand the
// answer may ask for ever.
func (s *Server) refuseGrant(ctx context.Context, req *tokenRequest, g Grant, cause Cause) error {
	if s.noted.take(string(cause)+g.ID.String(), noteLimit) == 0 {
		s.record(ctx, s.grantEvent(req, EventGrantRefused, g, cause))
	}
	return refuse(cause)
}

// record appends to the event log where the decision stands without it.
func (s *Server) record(ctx context.Context, event Event) {
	if err := s.cfg.Store.Record(ctx, event); err != nil {
		s.cfg.log().Error("an event was not recorded", "type", event.Type, "cause", event.Cause, "error", err)
	}
}
