package oauth

import "net/http"

// Error codes of the token endpoint (RFC 6749 section 5.2), the authorization
// endpoint (4.1.2.1), revocation (RFC 7009 section 2.2.1) and protected
// resources (RFC 6750 section 3.1).
const (
	InvalidRequest          = "invalid_request"
	InvalidClient           = "invalid_client"
	InvalidGrant            = "invalid_grant"
	UnauthorizedClient      = "unauthorized_client"
	UnsupportedGrantType    = "unsupported_grant_type"
	InvalidScope            = "invalid_scope"
	AccessDenied            = "access_denied"
	UnsupportedResponseType = "unsupported_response_type"
	ServerError             = "server_error"
	TemporarilyUnavailable  = "temporarily_unavailable"
	UnsupportedTokenType    = "unsupported_token_type"
	InvalidToken            = "invalid_token"
	InsufficientScope       = "insufficient_scope"
)

// Error is an OAuth error answer. It holds nothing that may not be shown to
// the client.
type Error struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	URI         string `json:"error_uri,omitempty"`
	Status      int    `json:"-"` // HTTP status; 0 means the default of the code
}

// Error is the code and its description, in English.
func (e *Error) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}

// HTTPStatus is the status to answer with at an endpoint that answers in JSON:
// 400 unless the code or Status says otherwise (RFC 6749 section 5.2).
func (e *Error) HTTPStatus() int {
	switch {
	case e.Status != 0:
		return e.Status
	case e.Code == InvalidClient, e.Code == InvalidToken:
		return http.StatusUnauthorized
	case e.Code == InsufficientScope:
		return http.StatusForbidden
	case e.Code == ServerError:
		return http.StatusInternalServerError
	case e.Code == TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Legal returns s with every character that RFC 6749 section 5.2 forbids in
// error and error_description (outside %x20-21 / %x23-5B / %x5D-7E) replaced
// by a question mark, so that text from a request can be named in an answer.
func Legal(s string) string {
	legal := func(c rune) bool { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' }
	out := make([]rune, 0, len(s))
	for _, c := range s {
		if !legal(c) {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}
