package issuer

import (
	"context"

	"github.com/evergrant/evergrant/oauth"
)

// redeem is the authorization_code grant (RFC 6749 section 4.1.3): the step of
// a grant from generation 0 to 1.
//
// A code that comes a second time convicts (section 4.1.2, 10.5): there is no
// retry window at generation 0. A request whose client, redirect_uri or
// code_verifier is wrong spends and revokes nothing, or anybody who has seen a
// code could end the grant.
func (s *Server) redeem(ctx context.Context, c *registered, req *tokenRequest) (oauth.TokenResponse, error) {
	code, verifier := req.params.Get("code"), req.params.Get("code_verifier")
	switch {
	case code == "":
		return oauth.TokenResponse{}, refuseBecause(CauseBadRequest, "The parameter code is missing.")
	case verifier == "":
		return oauth.TokenResponse{}, refuseBecause(CauseCodeBinding, "The parameter code_verifier is missing (RFC 7636).")
	case !oauth.ValidVerifier(verifier):
		return oauth.TokenResponse{}, refuseBecause(CauseCodeBinding, "The code_verifier must be 43 to 128 characters of A-Z a-z 0-9 - . _ ~ (RFC 7636 section 4.1).")
	}
	redirectURI := req.params.Get("redirect_uri")
	if redirectURI == "" && len(c.RedirectURIs) == 1 {
		redirectURI = c.RedirectURIs[0] // as the authorization request may omit it
	}
	ref, bound, err := s.parseCode(code, codeBinding{c.ID, redirectURI, oauth.Challenge(verifier)})
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	if !bound {
		return oauth.TokenResponse{}, s.refuseGrant(ctx, req, Grant{ID: ref.grant, ClientID: c.ID}, CauseCodeBinding)
	}
	rotation := s.step(c, ref, 0, 1)
	if !refreshes(c.Client) {
		rotation.ExpiresAt = rotation.AccessExpiresAt
	}
	grant, stepped, err := s.rotate(ctx, rotation)
	if err != nil {
		return oauth.TokenResponse{}, unknownGrant(err)
	}
	if !stepped {
		return oauth.TokenResponse{}, s.judgeCode(ctx, req, grant)
	}
	return s.answer(grant, c, grant.Scope, s.cfg.Keys.Current())
}

// judgeCode refuses a code that could not be redeemed, and revokes the grant if
// it had been.
func (s *Server) judgeCode(ctx context.Context, req *tokenRequest, row Grant) error {
	if cause := row.deadCause(s.cfg.now()); cause != "" && (row.Generation == 0 || cause == CauseGrantRevoked) {
		return s.refuseGrant(ctx, req, row, cause)
	}
	event := s.grantEvent(req, EventCodeReplayed, row, CauseCodeReplayed)
	if _, err := s.cfg.Store.Revoke(ctx, row.ID, event.At, event); err != nil {
		return unknownGrant(err)
	}
	s.cfg.log().Warn("authorization code replayed; grant revoked", "grant", row.ID, "client", row.ClientID, "address", req.address)
	return refuse(CauseCodeReplayed)
}
