package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
)

// tokenDocument is an access token as the API gives it. ExpiresAt and ExpiresIn
// are absent where it never expires or nobody knows.
type tokenDocument struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	ExpiresIn   *int64    `json:"expires_in,omitempty"` // seconds
	Scope       string    `json:"scope,omitempty"`
}

// token gives an access token of a connection, refreshed where it must be.
func (a *api) token(w http.ResponseWriter, r *http.Request) error {
	want, err := readWant(r)
	if err != nil {
		return err
	}
	want.Tenant = callerOf(r).tenant()
	unhurried(w)
	token, err := a.Keeper.Token(r.Context(), r.PathValue("id"), want)
	if err != nil {
		return err
	}
	document := tokenDocument{
		AccessToken: token.AccessToken.Reveal(), TokenType: token.TokenType,
		ExpiresAt: token.ExpiresAt, Scope: token.Scope.String(),
	}
	if !token.ExpiresAt.IsZero() {
		left := max(0, int64(token.ExpiresAt.Sub(a.Now())/time.Second)) // rounded down: nobody uses it too long
		document.ExpiresIn = &left
	}
	return writeJSON(w, http.StatusOK, document)
}

// readWant reads what a request asks of a token.
func readWant(r *http.Request) (want keeper.Want, err error) {
	query := r.URL.Query()
	for name, values := range query {
		if !slices.Contains([]string{"min_ttl", "force"}, name) {
			return want, badRequest(fmt.Sprintf("There is no query parameter %q here.", name), "use min_ttl, force")
		}
		if len(values) > 1 {
			return want, badRequest(fmt.Sprintf("The query parameter %q is given more than once.", name), "")
		}
	}
	if text := query.Get("min_ttl"); text != "" {
		if want.MinTTL, err = readDuration(text); err != nil {
			return want, badRequest(fmt.Sprintf("min_ttl cannot be %q.", text), "write a duration such as 60s or 5m, or a number of seconds")
		}
	}
	if text := query.Get("force"); text != "" {
		if want.Force, err = strconv.ParseBool(text); err != nil {
			return want, badRequest(fmt.Sprintf("force cannot be %q.", text), "use true or false")
		}
	}
	return want, nil
}

// readDuration reads a duration with units, or a number of seconds.
func readDuration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	lifetime, err := oauth.ParseLifetime(text)
	return max(0, time.Duration(lifetime)), err
}

// unhurried lifts the deadlines of the connection, for an answer that waits for
// a provider, which has a time limit of its own. The deadline for reading would
// end the request as well. Where the server has none there is none to lift.
func unhurried(w http.ResponseWriter) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Time{})
	_ = connection.SetWriteDeadline(time.Time{})
}
