package issuer

import "time"

// Cause is why something was refused or ended: the machine-readable reason in
// events and in `evergrant explain`.
type Cause string

// Causes. Each refusal that a client can see has one; refusal.go maps them to
// OAuth errors.
const (
	CauseBadRequest          Cause = "bad_request"
	CauseMethod              Cause = "method"
	CauseRevocationMethod    Cause = "revocation_method" // at revocation
	CauseContentType         Cause = "content_type"
	CauseGrantTypeMissing    Cause = "grant_type_missing"
	CauseRefreshTokenMissing Cause = "refresh_token_missing"
	CauseCodeMissing         Cause = "code_missing"
	CauseLoginMissing        Cause = "login_missing" // username or password
	CauseTokenMissing        Cause = "token_missing" // at revocation and introspection
	CauseTokenHint           Cause = "token_hint"
	CauseRedirectMissing     Cause = "redirect_missing"
	CauseRedirectMismatch    Cause = "redirect_mismatch" // of a code
	CauseVerifierMissing     Cause = "verifier_missing"
	CauseVerifierSyntax      Cause = "verifier_syntax"
	CauseVerifierMismatch    Cause = "verifier_mismatch"
	CauseClientMissing       Cause = "client_missing"
	CauseClientUnknown       Cause = "client_unknown"
	CauseClientSecretWrong   Cause = "client_secret_wrong"
	CauseClientSecretMissing Cause = "client_secret_missing" // of a client that is not public, or not known
	CauseClientPublic        Cause = "client_public"         // public clients may not do this
	CauseClientAuthMethod    Cause = "client_auth_method"
	CauseClientThrottled     Cause = "client_throttled"
	CauseGrantTypeUnknown    Cause = "grant_type_unknown"
	CauseGrantTypeForbidden  Cause = "grant_type_forbidden"
	CauseScopeMissing        Cause = "scope_missing"
	CauseScopeSyntax         Cause = "scope_syntax"
	CauseScopeExceeded       Cause = "scope_exceeded"  // more than the grant has
	CauseScopeForbidden      Cause = "scope_forbidden" // more than the client may have
	CauseScopeUnknown        Cause = "scope_unknown"   // not one of the server's
	CauseTokenForged         Cause = "token_forged"    // malformed, truncated, or not made by a key of ours
	CauseGrantUnknown        Cause = "grant_unknown"
	CauseRefreshTokenSpent   Cause = "refresh_token_spent" // used before, and had no successor
	CauseOtherClient         Cause = "other_client"
	CauseGrantRevoked        Cause = "grant_revoked"
	CauseGrantEnded          Cause = "grant_ended"           // its absolute lifetime is over
	CauseRefreshTokenExpired Cause = "refresh_token_expired" // not used for its idle lifetime
	CauseRefreshTokenReused  Cause = "refresh_token_reused"
	CauseCodeExpired         Cause = "code_expired"
	CauseCodeReplayed        Cause = "code_replayed"
	CauseCodeBinding         Cause = "code_binding" // wrong redirect_uri or code_verifier
	CauseCodeClient          Cause = "code_client"  // a code of another client
	CauseCredentialsWrong    Cause = "credentials_wrong"
	CauseLoginThrottled      Cause = "login_throttled"
	CauseClientRequest       Cause = "client_request"   // the client revoked
	CauseOperatorRequest     Cause = "operator_request" // an operator revoked
	CauseClientDeleted       Cause = "client_deleted"
	CauseUserDeleted         Cause = "user_deleted"
	CauseRestore             Cause = "restore"
	CauseImportGone          Cause = "import_gone" // the server that it was imported from has it no longer
	// At the authorization endpoint, before the client is known to own the
	// redirect URI.
	CauseAuthorizeClient            Cause = "authorize_client" // none is named
	CauseAuthorizeUnknownClient     Cause = "authorize_unknown_client"
	CauseAuthorizeRedirect          Cause = "authorize_redirect" // not registered for the client
	CauseAuthorizeRedirectFragment  Cause = "authorize_redirect_fragment"
	CauseAuthorizeRedirectMissing   Cause = "authorize_redirect_missing"
	CauseAuthorizeRedirectNone      Cause = "authorize_redirect_none"      // none given, none registered
	CauseAuthorizeRedirectAmbiguous Cause = "authorize_redirect_ambiguous" // none given, several registered
	// And after.
	CauseResponseTypeMissing   Cause = "response_type_missing"
	CauseResponseTypeUnknown   Cause = "response_type_unknown"
	CauseResponseTypeImplicit  Cause = "response_type_implicit" // token, which the profile does not have
	CauseResponseTypeForbidden Cause = "response_type_forbidden"
	CauseStateMissing          Cause = "state_missing"
	CauseChallengeMissing      Cause = "challenge_missing"
	CauseChallengeMethod       Cause = "challenge_method"
	CauseOwnerDenied           Cause = "owner_denied"
)

// Event types.
const (
	EventGrantCreated       = "grant.created"
	EventGrantHealed        = "grant.healed"
	EventGrantRevoked       = "grant.revoked"
	EventReuseDetected      = "grant.reuse_detected"
	EventCodeReplayed       = "grant.code_replayed"
	EventGrantRefused       = "grant.refused" // somebody presented a genuine token that is no longer good
	EventAccessTokenRevoked = "access_token.revoked"
	EventClientRefused      = "client.refused"
	EventClientSaved        = "client.saved"
	EventClientDeleted      = "client.deleted"
	EventLoginSucceeded     = "login.succeeded"
	EventLoginFailed        = "login.failed"
	EventUserSaved          = "user.saved"
	EventUserDeleted        = "user.deleted"
	EventSecretRehashed     = "secret.rehashed" // a client's secret or a user's password, in the form of another server until then
	EventImported           = "database.imported"
	EventKeyRotated         = "key.rotated"
	EventKeyDeleted         = "key.deleted"
	EventBackedUp           = "database.backed_up" // recorded before the copy begins, so that the copy says when it was made
	EventRestored           = "database.restored"
)

// Event is one entry of the audit log: a security decision with who caused it,
// from where and why. It never holds a token or another secret.
type Event struct {
	ID       int64     `json:"id"` // given by the store; grows
	At       time.Time `json:"at"`
	Type     string    `json:"type"`
	Grant    GrantID   `json:"grant,omitzero"`
	ClientID string    `json:"client_id,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	// Actor is who acted: "client:ID", "user:NAME", "operator" or "server".
	Actor   string `json:"actor"`
	Address string `json:"address,omitempty"` // network address of the request, without port
	Cause   Cause  `json:"cause,omitempty"`
	Detail  string `json:"detail,omitempty"` // for people
}
