package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// states are those that a connection can be in.
var states = []string{string(keeper.Active), string(keeper.InDoubt), string(keeper.Reauthorize), string(keeper.Paused)}

func (a *api) listConnections(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r, "provider", "owner", "state", "tenant")
	if err != nil {
		return err
	}
	state := l.query.Get("state")
	if state != "" && !slices.Contains(states, state) {
		return badRequest(fmt.Sprintf("There is no state %q.", state), "use "+strings.Join(states, ", "))
	}
	tenant, err := callerOf(r).choose(l.query.Get("tenant"))
	if err != nil {
		return err
	}
	connections, err := a.Connections.Connections(r.Context(), keeper.Filter{
		Provider: l.query.Get("provider"), Owner: l.query.Get("owner"), State: keeper.State(state),
		Tenant: tenant, After: l.cursor, Limit: l.ask(),
	})
	if err != nil {
		return err
	}
	show := func(c keeper.Connection) keeper.Connection { return c }
	return writePage(w, l, connections, show, func(c keeper.Connection) string { return c.ID })
}

// connection is the one that a request's path names, if the caller sees it. Of
// others it must not even learn that they are there.
func (a *api) connection(r *http.Request) (keeper.Connection, error) {
	c, err := a.Keeper.Connection(r.Context(), r.PathValue("id"))
	if err == nil && !callerOf(r).sees(c.Tenant) {
		return keeper.Connection{}, keeper.ErrNotFound
	}
	return c, err
}

func (a *api) showConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

// importedTokens are tokens that somebody already has, named as in a token
// answer (RFC 6749 section 5.1).
type importedTokens struct {
	AccessToken           secret.Text  `json:"access_token"`
	RefreshToken          secret.Text  `json:"refresh_token"`
	TokenType             string       `json:"token_type"`
	Scope                 scopeText    `json:"scope"`
	ExpiresIn             *secondsText `json:"expires_in"`
	ExpiresAt             *timeText    `json:"expires_at"`
	RefreshTokenExpiresIn *secondsText `json:"refresh_token_expires_in"`
	RefreshTokenExpiresAt *timeText    `json:"refresh_token_expires_at"`
}

func (a *api) createConnection(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Provider   string            `json:"provider"`
		ID         string            `json:"id"`
		Owner      string            `json:"owner"`
		Tenant     string            `json:"tenant"`
		Params     map[string]string `json:"params"`
		Metadata   map[string]any    `json:"metadata"`
		Background keeper.Background `json:"background"`
		Tokens     importedTokens    `json:"tokens"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	in := keeper.Import{
		ID: body.ID, Provider: body.Provider, Owner: body.Owner, Params: body.Params, Metadata: body.Metadata, Background: body.Background,
		AccessToken: body.Tokens.AccessToken, RefreshToken: body.Tokens.RefreshToken,
		TokenType: body.Tokens.TokenType, Scope: oauth.Scope(body.Tokens.Scope),
	}
	if body.Provider == "" {
		return badRequest(`The field "provider" is missing.`, nextProviders)
	}
	tenant, err := callerOf(r).choose(body.Tenant)
	if err != nil {
		return err
	}
	if tenant != nil {
		in.Tenant = *tenant
	}
	if in.ExpiresAt, err = ends("expires", body.Tokens.ExpiresIn, body.Tokens.ExpiresAt, a.Now()); err != nil {
		return err
	}
	if in.RefreshEnds, err = ends("refresh_token_expires", body.Tokens.RefreshTokenExpiresIn, body.Tokens.RefreshTokenExpiresAt, a.Now()); err != nil {
		return err
	}
	c, err := a.Keeper.Create(r.Context(), a.actor(r), in)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/connections/"+url.PathEscape(c.ID))
	return writeJSON(w, http.StatusCreated, c)
}

// nextProviders is what to do where a provider is missing or unknown.
const nextProviders = "list the providers with GET /v1/providers or `evergrant provider list`"

// ends is when something ends that is told as a duration or as a time; the zero
// time where neither is told.
func ends(name string, in *secondsText, at *timeText, now time.Time) (time.Time, error) {
	switch {
	case in != nil && at != nil:
		return time.Time{}, badRequest(fmt.Sprintf(`Both "%s_in" and "%s_at" are given.`, name, name), "choose one of them")
	case in != nil:
		return now.Add(time.Duration(*in)), nil
	case at != nil:
		return time.Time(*at), nil
	}
	return time.Time{}, nil
}

// secondsText is a number of seconds, or a text of one, as some providers write
// it.
type secondsText time.Duration

// maxSeconds bounds lifetimes: a hundred years.
const maxSeconds = 100 * 366 * 24 * 60 * 60

// UnmarshalJSON reads a number or a text of one.
func (s *secondsText) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	if err != nil || !(n >= 0 && n <= maxSeconds) {
		return errors.New("a lifetime is a number of seconds")
	}
	*s = secondsText(n * float64(time.Second))
	return nil
}

// timeText is a time as RFC 3339 writes it, or in seconds since the epoch.
type timeText time.Time

// UnmarshalJSON reads a text or a number.
func (t *timeText) UnmarshalJSON(b []byte) error {
	if n, err := strconv.ParseFloat(string(b), 64); err == nil && n >= 0 && n <= 1<<33 {
		*t = timeText(time.Unix(int64(n), 0).UTC())
		return nil
	}
	var at time.Time
	if err := at.UnmarshalJSON(b); err != nil {
		return errors.New("a time is written as 2031-05-17T09:30:00Z, or in seconds since the epoch")
	}
	*t = timeText(at.UTC())
	return nil
}

// scopeText is a scope as a text with spaces, or as a list.
type scopeText oauth.Scope

// UnmarshalJSON reads a text or a list of texts.
func (s *scopeText) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		var list []string
		if err := json.Unmarshal(b, &list); err != nil {
			return errors.New("a scope is a text or a list of texts")
		}
		text = strings.Join(list, " ")
	}
	scope, err := oauth.ParseScope(text)
	*s = scopeText(scope)
	return err
}

// actor is who changes a connection by a request.
func (a *api) actor(r *http.Request) keeper.Actor { return callerOf(r).actor(a.Address(r)) }

// deletedConnection is the answer to a deletion. Problem is why the provider did
// not revoke the grant.
type deletedConnection struct {
	Revoked bool   `json:"revoked"` // at the provider
	Problem string `json:"problem,omitempty"`
}

func (a *api) deleteConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	unhurried(w)
	revoked, err := a.Keeper.Delete(r.Context(), a.actor(r), c.ID)
	if kept, ok := errors.AsType[*keeper.NotRevoked](err); ok {
		return writeJSON(w, http.StatusOK, deletedConnection{Problem: kept.Error()})
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, deletedConnection{Revoked: revoked})
}

func (a *api) refreshConnection(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		EvenInDoubt bool `json:"even_in_doubt"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &body); err != nil {
			return err
		}
	}
	if body.EvenInDoubt && !callerOf(r).operator {
		return refuse(http.StatusForbidden, "Only the operator may send a refresh token that may have been spent.", `leave out "even_in_doubt", or let the owner connect again`)
	}
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	unhurried(w)
	if c, err = a.Keeper.Refresh(r.Context(), a.actor(r), c.ID, body.EvenInDoubt); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (a *api) pauseConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	if c, err = a.Keeper.Pause(r.Context(), a.actor(r), c.ID); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (a *api) resumeConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	if c, err = a.Keeper.Resume(r.Context(), a.actor(r), c.ID); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (a *api) explainConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	explanation, err := a.Keeper.Explain(r.Context(), c.ID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, connectionExplanation{"connection", explanation})
}

// connectionExplanation is what is told of a connection, beside what is told of
// grants and tokens.
type connectionExplanation struct {
	Kind string `json:"kind"`
	keeper.Explanation
}
