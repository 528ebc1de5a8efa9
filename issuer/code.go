package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
	response, err := s.redeemCode(ctx, c, req)
	return response, c.ofCode(err)
}

// ofCode is an error about a code as the client's profile tells it.
func (c *registered) ofCode(err error) error {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		if told, named := c.profile.CodeErrors[refusal.Cause]; named {
			return fmt.Errorf("%w: %w", err, &told)
		}
	}
	return err
}

func (s *Server) redeemCode(ctx context.Context, c *registered, req *tokenRequest) (oauth.TokenResponse, error) {
	ref, err := s.boundCode(ctx, c, req)
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	rotation := s.step(c, ref, 0, 1)
	if !c.refreshes() {
		rotation.ExpiresAt = rotation.AccessExpiresAt
	}
	if rotation.Scope, err = s.narrowedCode(ctx, c, req, ref); err != nil {
		return oauth.TokenResponse{}, err
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

// boundCode is what the code of a request refers to, if the rest of the request
// belongs to it.
func (s *Server) boundCode(ctx context.Context, c *registered, req *tokenRequest) (tokenRef, error) {
	switch {
	case !req.params.Has("code"):
		return tokenRef{}, refuse(CauseCodeMissing)
	case !req.params.Has("redirect_uri") && c.profile.RequireRedirect:
		return tokenRef{}, refuse(CauseRedirectMissing)
	}
	ref, redirect, challenge, err := s.presentedCode(c, c.ID, req.params)
	if err == nil && !(redirect && challenge) {
		err = s.judgeBinding(ctx, c, req, ref, redirect, challenge)
	}
	return ref, err
}

// examineCode says why the code of a request is no good, and convicts nobody.
func (s *Server) examineCode(ctx context.Context, c *registered, req *tokenRequest) error {
	ref, err := s.boundCode(ctx, c, req)
	if err != nil {
		return c.ofCode(err)
	}
	row, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return c.ofCode(unknownGrant(err))
	}
	switch dead := row.deadCause(s.cfg.now()); {
	case row.Generation > 0:
		return c.ofCode(refuse(CauseCodeBinding))
	case dead != "":
		return c.ofCode(refuse(dead))
	}
	return nil
}

// presentedCode verifies the code of a request, without a database, and reports
// whether its redirect_uri and its code_verifier are those that the code was made
// for, if it was made for a client.
func (s *Server) presentedCode(c *registered, clientID string, params oauth.Params) (ref tokenRef, redirect, challenge bool, err error) {
	given, verifier := params.Get("redirect_uri"), params.Get("code_verifier")
	binding := codeBinding{clientID, c.boundRedirect(given), ""}
	if verifier != "" {
		binding.challenge = oauth.Challenge(verifier)
	}
	ref, redirect, challenge, err = s.matchCode(params.Get("code"), binding)
	if !redirect && c.profile.RepeatRedirect && given == c.onlyRedirect() {
		binding.redirectURI = "" // the authorization request left it out
		_, redirect, _, err = s.matchCode(params.Get("code"), binding)
	}
	return ref, redirect, challenge && (verifier == "" || oauth.ValidVerifier(verifier)), err
}

// boundRedirect is what a code is bound to for a redirect_uri of a request: the
// one that alone is registered where it is left out, but where the profile tells
// the two apart.
func (c *registered) boundRedirect(given string) string {
	if c.profile.RepeatRedirect {
		return given
	}
	return cmp.Or(given, c.onlyRedirect())
}

// onlyRedirect is the client's redirect URI if it has one alone.
func (c *registered) onlyRedirect() string {
	if len(c.RedirectURIs) == 1 {
		return c.RedirectURIs[0]
	}
	return ""
}

// narrowedCode is the scope that a request narrows the grant of its code to, nil
// for none. A scope that cannot be had must not cost the code.
func (s *Server) narrowedCode(ctx context.Context, c *registered, req *tokenRequest, ref tokenRef) (oauth.Scope, error) {
	if !c.profile.NarrowForGood {
		return nil, nil
	}
	asked, err := c.askedScope(req.params)
	if asked == nil && err == nil {
		return nil, nil
	}
	row, missing := s.cfg.Store.Grant(ctx, ref.grant)
	switch {
	case missing != nil:
		return nil, unknownGrant(missing)
	case row.Generation > 0 || !row.Live(s.cfg.now()):
		return nil, nil // as the step finds out
	case err != nil || !row.Scope.Covers(asked):
		return nil, refuse(CauseScopeExceeded)
	}
	return asked, nil
}

// judgeBinding refuses a genuine code whose request is wrong in another part, and
// notes it. Without a profile that tells more apart no row is read for it.
func (s *Server) judgeBinding(ctx context.Context, c *registered, req *tokenRequest, ref tokenRef, redirect, challenge bool) error {
	cause, verifier := CauseCodeBinding, verifierCause(req.params.Get("code_verifier"))
	switch {
	case c.profile.CodeErrors != nil:
		var err error
		if cause, err = s.bindingCause(ctx, c, req, ref); err != nil {
			return err
		}
	case !challenge && (redirect || verifier == CauseVerifierSyntax || verifier == CauseVerifierMissing && c.needsChallenge()):
		cause = verifier
	case challenge:
		cause = CauseRedirectMismatch
	}
	if s.noted.take(string(CauseCodeBinding)+ref.grant.String(), noteLimit) == 0 {
		event := s.grantEvent(req, EventGrantRefused, Grant{ID: ref.grant, ClientID: c.ID}, CauseCodeBinding)
		event.Detail = string(cause)
		s.record(ctx, event)
	}
	return refuse(cause)
}

// bindingCause says which part is wrong, by the row and as if the code's own
// client had sent the rest. Of a code that is spent it says nothing.
func (s *Server) bindingCause(ctx context.Context, c *registered, req *tokenRequest, ref tokenRef) (Cause, error) {
	row, err := s.cfg.Store.Grant(ctx, ref.grant)
	if err != nil {
		return "", unknownGrant(err)
	}
	_, redirect, challenge, err := s.presentedCode(c, row.ClientID, req.params)
	switch dead := row.deadCause(s.cfg.now()); {
	case row.Generation > 0, dead == CauseGrantRevoked:
		return CauseCodeBinding, err
	case row.ClientID != c.ID && !c.profile.ExpiredFirst:
		return CauseCodeClient, err
	case !redirect:
		return CauseRedirectMismatch, err
	case dead != "" && c.profile.ExpiredFirst:
		return dead, err
	case !challenge:
		return verifierCause(req.params.Get("code_verifier")), err
	}
	return CauseCodeClient, err
}

// verifierCause is what is wrong with a verifier that does not belong to a code.
func verifierCause(verifier string) Cause {
	switch {
	case verifier == "":
		return CauseVerifierMissing
	case !oauth.ValidVerifier(verifier):
		return CauseVerifierSyntax
	}
	return CauseVerifierMismatch
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
