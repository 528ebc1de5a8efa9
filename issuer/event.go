package issuer

import "time"

// Cause is why something was refused or ended: the machine-readable reason in
// events and in `evergrant explain`.
type Cause string

// Causes. Each refusal that a client can see has one; refusal.go maps them to
// OAuth errors.
const (
	CauseBadRequest          Cause = "bad_request"
	CauseClientMissing       Cause = "client_missing"
	CauseClientUnknown       Cause = "client_unknown"
	CauseClientSecretWrong   Cause = "client_secret_wrong"
	CauseClientAuthMethod    Cause = "client_auth_method"
	CauseClientThrottled     Cause = "client_throttled"
	CauseGrantTypeUnknown    Cause = "grant_type_unknown"
	CauseGrantTypeForbidden  Cause = "grant_type_forbidden"
	CauseScopeSyntax         Cause = "scope_syntax"
	CauseScopeExceeded       Cause = "scope_exceeded"
	CauseTokenForged         Cause = "token_forged" // malformed, truncated, or not made by a key of ours
	CauseGrantUnknown        Cause = "grant_unknown"
	CauseOtherClient         Cause = "other_client"
	CauseGrantRevoked        Cause = "grant_revoked"
	CauseGrantEnded          Cause = "grant_ended"           // its absolute lifetime is over
	CauseRefreshTokenExpired Cause = "refresh_token_expired" // not used for its idle lifetime
	CauseRefreshTokenReused  Cause = "refresh_token_reused"
	CauseCodeExpired         Cause = "code_expired"
	CauseCodeReplayed        Cause = "code_replayed"
	CauseCodeBinding         Cause = "code_binding" // wrong redirect_uri or code_verifier
	CauseCredentialsWrong    Cause = "credentials_wrong"
	CauseLoginThrottled      Cause = "login_throttled"
	CauseClientRequest       Cause = "client_request"   // the client revoked
	CauseOperatorRequest     Cause = "operator_request" // an operator revoked
	CauseClientDeleted       Cause = "client_deleted"
	CauseUserDeleted         Cause = "user_deleted"
	CauseRestore             Cause = "restore"
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
