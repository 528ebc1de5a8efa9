package issuer

import (
	"cmp"
	"context"
	"strconv"

	"github.com/evergrant/evergrant/oauth"
)

// grantCode creates the grant that the owner decided on, durably, and makes its
// code. A crash in between leaves a grant that nobody can redeem and that is
// purged when its code has expired.
func (s *Server) grantCode(ctx context.Context, client *registered, ask *Authorization, answer Answer, params oauth.Params) ([]parameter, error) {
	key, now := s.cfg.Keys.Current(), s.cfg.now()
	grant := Grant{
		ID: NewGrantID(), ClientID: client.ID, Subject: answer.Subject, Scope: answer.Scope, KeyID: key.ID,
		CreatedAt: now, RotatedAt: now,
		EndsAt: client.policy.GrantLifetime.After(now),
	}
	grant.ExpiresAt = capped(client.after(client.policy.CodeLifetime, now), grant.EndsAt)
	if err := s.createOwned(ctx, grant, ask, "authorization code"); err != nil {
		return nil, err
	}
	challenge := params.Get("code_challenge")
	if challenge == "" {
		s.count(client.ID, HabitNoPKCE)
	}
	binding := codeBinding{client.ID, client.boundRedirect(params.Get("redirect_uri")), challenge}
	return []parameter{{"code", authorizationCode(key, grant.ID, binding)}}, nil
}

// grantToken creates the grant that the owner decided on with its only access
// token, and no refresh token (RFC 6749 section 4.2.2).
func (s *Server) grantToken(ctx context.Context, client *registered, ask *Authorization, answer Answer) ([]parameter, error) {
	if err := s.canSign(ctx, client.policy); err != nil {
		return nil, err
	}
	grant := s.newGrant(client, answer.Subject, answer.Scope)
	grant.ExpiresAt = grant.AccessExpiresAt
	if err := s.createOwned(ctx, grant, ask, "implicit"); err != nil {
		return nil, err
	}
	s.count(client.ID, HabitImplicit)
	response, err := s.answer(grant, client, grant.Scope, s.cfg.Keys.Current())
	values := map[string]string{
		"access_token": response.AccessToken,
		"token_type":   cmp.Or(client.profile.TokenType, response.TokenType),
		"expires_in":   strconv.FormatInt(response.ExpiresIn, 10),
		"scope":        response.Scope,
	}
	fields := client.profile.Fields
	if fields == nil {
		fields = []string{"access_token", "token_type", "expires_in", "scope"}
	}
	var sent []parameter
	for _, name := range fields {
		sent = append(sent, parameter{name, values[name]})
	}
	return sent, err
}

// createOwned stores a grant that its owner has just decided on.
func (s *Server) createOwned(ctx context.Context, grant Grant, ask *Authorization, kind string) error {
	return s.cfg.Store.CreateGrant(ctx, grant, Event{
		At: grant.CreatedAt, Type: EventGrantCreated, Grant: grant.ID, ClientID: grant.ClientID, Subject: grant.Subject,
		Actor: "user:" + grant.Subject, Address: ask.address, Detail: kind + " grant, scope " + grant.Scope.String(),
	})
}
