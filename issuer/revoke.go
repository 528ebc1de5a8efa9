package issuer

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// revoke is the revocation endpoint (RFC 7009). A refresh token or code ends
// its grant and with it every token; an access token ends alone. A token that
// is not ours, or dead already, is answered with 200 (section 2.2); one of
// another client is refused (section 2.1). The hint is not needed: the form of
// a token says what it is.
func (s *Server) revoke(ctx context.Context, req *tokenRequest) (any, error) {
	client, err := s.authenticateClient(ctx, req)
	if _, refused := errors.AsType[*Refusal](err); refused && req.profile.OpenRevocation {
		client, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	token, hint := req.params.Get("token"), req.params.Get("token_type_hint")
	switch {
	case req.profile.StrictHint && hint != "" && hint != oauth.HintAccessToken && hint != oauth.HintRefreshToken:
		return nil, refuse(CauseTokenHint)
	case token == "":
		return nil, refuse(CauseTokenMissing)
	}
	if err := s.revokeToken(ctx, client, req, token); err != nil || req.profile.Revoked == "" {
		return nil, err
	}
	return encodedJSON(req.profile.Revoked), nil
}

// revokeToken revokes for a client, or for whoever has the token where that is nil.
func (s *Server) revokeToken(ctx context.Context, client *registered, req *tokenRequest, token string) error {
	if ref, ok := s.grantOf(token); ok {
		return s.revokeGrant(ctx, client, req, ref)
	}
	claims, err := s.openAccess(token, s.cfg.now())
	if err != nil {
		foreign, _, err := s.foreignGrant(ctx, token, secret.ForeignRefresh, secret.ForeignAccess)
		if err != nil {
			return ignoreNotFound(err)
		}
		return s.revokeGrant(ctx, client, req, tokenRef{grant: foreign.ID})
	}
	event := Event{
		At: s.cfg.now(), Type: EventAccessTokenRevoked, ClientID: claims.ClientID, Subject: claims.Subject,
		Actor: req.actor, Address: req.address, Cause: CauseClientRequest,
	}
	if err := s.mayRevoke(ctx, client, &event); err != nil {
		return err
	}
	if claims.Generation > 0 {
		event.Grant = claims.Grant
	}
	return s.cfg.Store.RevokeAccessToken(ctx, claims.ID, time.Unix(claims.ExpiresAt, 0).UTC(), event)
}

// mayRevoke refuses a token of another client, and any where nobody has
// authenticated, unless the profile of the token's client lets whoever has it
// revoke it.
func (s *Server) mayRevoke(ctx context.Context, client *registered, event *Event) error {
	if client != nil && event.ClientID == client.ID {
		return nil
	}
	owner, err := s.clients.get(ctx, event.ClientID)
	switch {
	case ignoreNotFound(err) != nil:
		return err
	case err == nil && owner.profile.OpenRevocation:
		s.count(owner.ID, HabitOpenRevocation)
		event.Actor, event.Detail = "client:"+owner.ID, "by whoever had the token, without the client's secret"
		return nil
	case client == nil:
		return refuse(CauseClientMissing)
	}
	return refuse(CauseOtherClient)
}

// tokenClient is the client that a token was issued to, nil where it is not ours.
func (s *Server) tokenClient(ctx context.Context, token string) (*registered, error) {
	claims, err := s.openAccess(token, s.cfg.now())
	if err == nil {
		client, err := s.clients.get(ctx, claims.ClientID)
		return client, ignoreNotFound(err)
	}
	var grant Grant
	if ref, ok := s.grantOf(token); ok {
		grant, err = s.cfg.Store.Grant(ctx, ref.grant)
	} else {
		grant, _, err = s.foreignGrant(ctx, token, secret.ForeignRefresh, secret.ForeignAccess)
	}
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	client, err := s.clients.get(ctx, grant.ClientID)
	return client, ignoreNotFound(err)
}

// grantOf finds the grant of a genuine refresh token or code of any generation.
func (s *Server) grantOf(token string) (tokenRef, bool) {
	if strings.HasPrefix(token, CodePrefix) {
		ref, _, err := s.parseCode(token, codeBinding{})
		return ref, err == nil
	}
	ref, err := s.parseRefreshToken(token)
	return ref, err == nil
}

func (s *Server) revokeGrant(ctx context.Context, client *registered, req *tokenRequest, ref tokenRef) error {
	grant, err := s.cfg.Store.Grant(ctx, ref.grant)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	event := s.grantEvent(req, EventGrantRevoked, grant, CauseClientRequest)
	if err := s.mayRevoke(ctx, client, &event); err != nil {
		return err
	}
	_, err = s.cfg.Store.Revoke(ctx, grant.ID, event.At, event)
	if errors.Is(err, ErrNotFound) {
		return nil // purged in between
	}
	return err
}
