package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
)

// connectPath is followed by the sealed text of a link.
const connectPath = "/connect/"

// connectSession is a page where an owner connects, or connects again.
type connectSession struct {
	URL        string    `json:"url"`
	ExpiresAt  time.Time `json:"expires_at"`
	Connection string    `json:"connection"` // its id, from then on where it is a new one
}

// createConnectSession makes a link to the page where an owner connects. Whoever
// may make links decides where the browser goes in the end: nobody else can use
// this server to send people somewhere, since a link that was not made here does
// not open.
func (a *api) createConnectSession(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Provider   string            `json:"provider"`
		Tenant     string            `json:"tenant"`
		Owner      string            `json:"owner"`
		Connection string            `json:"connection"`
		Params     map[string]string `json:"params"`
		ReturnURL  string            `json:"return_url"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	in := keeper.Connect{
		Provider: body.Provider, Owner: body.Owner, Connection: body.Connection, Params: body.Params, ReturnURL: body.ReturnURL,
	}
	if err := checkReturn(in.ReturnURL); err != nil {
		return err
	}
	tenant, err := callerOf(r).choose(body.Tenant)
	if err != nil {
		return err
	}
	if tenant != nil {
		in.Tenant = *tenant
	}
	if in.Connection != "" {
		if in, err = a.repairing(r.Context(), in, tenant); err != nil {
			return err
		}
	}
	if in.Provider == "" {
		return badRequest(`The field "provider" is missing.`, nextProviders)
	}
	session, err := a.session(r.Context(), in)
	if err != nil {
		return err
	}
	w.Header().Set("Location", session.URL)
	return writeJSON(w, http.StatusCreated, session)
}

// repairing fills in what the connection that is to be repaired says itself. One
// of another tenant is for the caller not there, and its id is in use all the
// same.
func (a *api) repairing(ctx context.Context, in keeper.Connect, tenant *string) (keeper.Connect, error) {
	c, err := a.Keeper.Connection(ctx, in.Connection)
	switch {
	case errors.Is(err, keeper.ErrNotFound) || err == nil && tenant != nil && c.Tenant != *tenant:
		return in, nil
	case err != nil:
		return in, err
	}
	in.Tenant = c.Tenant
	if in.Provider == "" {
		in.Provider = c.Provider
	}
	if in.Owner == "" {
		in.Owner = c.Owner
	}
	return in, nil
}

// session makes a link.
func (a *api) session(ctx context.Context, in keeper.Connect) (connectSession, error) {
	text, expires, err := a.Keeper.Link(ctx, in)
	if err != nil {
		return connectSession{}, err
	}
	made, err := a.Keeper.OpenLink(text)
	return connectSession{a.PublicURL + connectPath + text, expires, made.Connection}, err
}

// checkReturn refuses URLs to which the browser's answer would go in clear, or
// that are not a web page's.
func checkReturn(text string) error {
	if text == "" {
		return nil
	}
	if err := oauth.CheckRedirectURI(text); err != nil || !strings.HasPrefix(text, "http") {
		return badRequest("The return_url must be an https URL, or http on a loopback host, without user and fragment.", "correct it, or leave it out to end on a page of this server")
	}
	return nil
}

// repairURL is a new link for the owner of a connection that only they can
// repair, for callers who may let them; otherwise "".
func (a *api) repairURL(r *http.Request, id string) string {
	if who := callerOf(r); !who.may(ScopeWrite) && !who.may(ScopeToken) {
		return ""
	}
	c, err := a.Keeper.Connection(r.Context(), id)
	if err != nil {
		return ""
	}
	session, err := a.session(r.Context(), keeper.Connect{Provider: c.Provider, Tenant: c.Tenant, Owner: c.Owner, Connection: c.ID})
	if err != nil {
		return "" // the refusal that it goes with says what to do all the same
	}
	return session.URL
}
