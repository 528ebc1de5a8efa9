package issuer

import (
	"maps"
	"net/http"
	"slices"

	"github.com/evergrant/evergrant/oauth"
	"github.com/go-jose/go-jose/v4"
)

// serveMetadata is the authorization server metadata (RFC 8414).
func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	secrets := []string{oauth.AuthBasic, oauth.AuthPost}
	all := append(slices.Clone(secrets), oauth.AuthNone)
	document := oauth.Metadata{
		Issuer:                           s.cfg.Issuer,
		TokenEndpoint:                    s.cfg.Issuer + TokenPath,
		JWKSURI:                          s.cfg.Issuer + JWKSPath,
		ScopesSupported:                  slices.Sorted(maps.Keys(s.cfg.Scopes)),
		ResponseTypesSupported:           []string{},
		GrantTypesSupported:              []string{oauth.GrantClientCredentials, oauth.GrantPassword, oauth.GrantRefreshToken},
		TokenEndpointAuthMethods:         all,
		RevocationEndpoint:               s.cfg.Issuer + RevokePath,
		RevocationEndpointAuthMethods:    all,
		IntrospectionEndpoint:            s.cfg.Issuer + IntrospectPath,
		IntrospectionEndpointAuthMethods: secrets,
	}
	if s.cfg.AskOwner != nil {
		document.AuthorizationEndpoint = s.cfg.Issuer + AuthorizePath
		document.ResponseTypesSupported = []string{"code"}
		document.ResponseModesSupported = []string{"query"}
		document.GrantTypesSupported = append([]string{oauth.GrantAuthorizationCode}, document.GrantTypesSupported...)
		document.CodeChallengeMethodsSupported = []string{oauth.S256}
		document.AuthorizationResponseIssSupported = s.profile.RedirectFields == nil
		if s.profile.Implicit {
			document.ResponseTypesSupported = append(document.ResponseTypesSupported, responseToken)
			document.ResponseModesSupported = append(document.ResponseModesSupported, "fragment")
			document.GrantTypesSupported = append(document.GrantTypesSupported, oauth.GrantImplicit)
		}
	}
	w.Header().Set("Cache-Control", "public, max-age="+jwksMaxAgeSecond)
	w.Header().Set("Access-Control-Allow-Origin", "*") // public documents, which browser clients read
	s.writeJSON(w, http.StatusOK, document)
}

// serveJWKS is the set of public keys (RFC 7517 section 5): of every key in
// force, those that have not begun to sign included, so that caches know them
// in time.
func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range s.cfg.Keys.Keys() {
		for _, signer := range key.Signers() {
			set.Keys = append(set.Keys, signer.JWK())
		}
	}
	w.Header().Set("Cache-Control", "public, max-age="+jwksMaxAgeSecond)
	w.Header().Set("Access-Control-Allow-Origin", "*")
	s.writeJSON(w, http.StatusOK, set)
}
