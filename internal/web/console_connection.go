package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/keeper"
)

// fact is one line of what is known of a connection.
type fact struct {
	Name, Text string
	Moment     moment
}

// connectionPage is one connection, with what came of what was last done.
type connectionPage struct {
	Frame      frame
	C          keeper.Connection
	Verdict    string
	Repair     string
	NeedsOwner bool // an owner's consent makes or repairs it
	Facts      []fact
	Events     []eventRow
	Problem    *problem
	Done       string
	Link       string
	LinkUntil  moment
}

// done are the words for what was done, by the name in the URL to which the
// browser was sent after it, so that loading the page again does nothing.
var done = map[string]string{
	"refresh": "Refreshed.", "refresh_in_doubt": "Refreshed.", "pause": "Paused: nothing is sent to the provider.", "resume": "Resumed.",
}

// showConnection shows a connection, after doing what a form says.
func (c *console) showConnection(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	page := connectionPage{Frame: c.frame("connections"), Done: done[r.URL.Query().Get("done")]}
	status := http.StatusOK
	if r.Method == http.MethodPost {
		page.Done = ""
		unhurried(w)
		gone, err := c.act(w, r, id, &page)
		if gone {
			return nil
		}
		if err != nil {
			told, ours := problemOf(err)
			if ours {
				c.Log.ErrorContext(r.Context(), "console action failed", "connection", id, "action", r.PostFormValue("action"), "error", err)
			}
			page.Problem, status = told, told.Status
		}
	}
	explanation, err := c.Keeper.Explain(r.Context(), id)
	if err != nil {
		return err
	}
	page.C, page.Verdict, page.Repair = explanation.Connection, explanation.Verdict, sentence(explanation.Repair)
	if p, ok := c.provider(page.C.Provider); ok {
		page.NeedsOwner = needsOwner(p.Definition())
	}
	page.Facts = c.facts(page.C)
	for _, e := range explanation.Events {
		page.Events = append(page.Events, c.eventRow(e))
	}
	c.look.show(w, status, "console_connection", page.C.ID, page)
	return nil
}

// act does what a form says. It reports whether it has answered.
func (c *console) act(w http.ResponseWriter, r *http.Request, id string, page *connectionPage) (answered bool, err error) {
	ctx, actor, action := r.Context(), c.operator(r), r.PostFormValue("action")
	switch action {
	case "refresh":
		_, err = c.Keeper.Refresh(ctx, actor, id, false)
	case "refresh_in_doubt":
		if err = sure(r); err == nil {
			_, err = c.Keeper.Refresh(ctx, actor, id, true)
		}
	case "pause":
		_, err = c.Keeper.Pause(ctx, actor, id)
	case "resume":
		_, err = c.Keeper.Resume(ctx, actor, id)
	case "reconnect":
		return false, c.link(r, id, page)
	case "delete":
		if err = sure(r); err == nil {
			return c.delete(w, r, id)
		}
	default:
		err = unknownAction(r)
	}
	if err != nil {
		return false, err
	}
	c.goOn(w, "?done="+action)
	return true, nil
}

// goOn sends the browser to a page of the console with GET.
func (c *console) goOn(w http.ResponseWriter, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// link makes a link for the owner and shows it.
func (c *console) link(r *http.Request, id string, page *connectionPage) error {
	row, err := c.Keeper.Connection(r.Context(), id)
	if err != nil {
		return err
	}
	session, err := c.session(r.Context(), keeper.Connect{Provider: row.Provider, Tenant: row.Tenant, Owner: row.Owner, Connection: row.ID})
	page.Link, page.LinkUntil = session.URL, c.moment(session.ExpiresAt)
	return err
}

// delete deletes a connection. Where the provider did not revoke the grant, that
// has to be seen.
func (c *console) delete(w http.ResponseWriter, r *http.Request, id string) (answered bool, err error) {
	_, err = c.Keeper.Delete(r.Context(), c.operator(r), id)
	if kept, ok := errors.AsType[*keeper.NotRevoked](err); ok {
		c.look.show(w, http.StatusOK, "console_error", "Deleted", struct {
			Frame   frame
			Problem *problem
		}{c.frame("connections"), &problem{Title: "Deleted, and not revoked", Detail: sentence(kept.Error())}})
		return true, nil
	}
	if err != nil {
		return false, err
	}
	c.goOn(w, c.root+"/console/connections")
	return true, nil
}

// facts are what is known of a connection, without what is not there.
func (c *console) facts(of keeper.Connection) []fact {
	at := func(name string, t time.Time) fact { return fact{Name: name, Moment: c.moment(t)} }
	all := []fact{
		{Name: "Provider", Text: of.Provider}, {Name: "Owner", Text: of.Owner}, {Name: "Tenant", Text: of.Tenant},
		{Name: "Cause", Text: string(of.Cause)}, at("In this state since", of.Since), {Name: "Scope", Text: of.Scope.String()}, {Name: "Asked for", Text: of.Asked.String()},
		{Name: "Params", Text: pairs(of.Params)}, {Name: "Refreshed", Text: string(of.Background)},
		at("Tokens since", of.IssuedAt), at("Access token expires", of.ExpiresAt), at("Refresh token expires", of.RefreshExpiresAt), at("Grant ends", of.EndsAt),
		at("Next due", of.DueAt), {Name: "Last error", Text: lastError(of)}, at("Created", of.CreatedAt),
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Text == "" && f.Moment.Text == "" })
}

// lastError is what went wrong last at the provider, and what it means.
func lastError(of keeper.Connection) string {
	return strings.Trim(string(of.Class)+": "+of.Error, ": ")
}

// pairs writes params in the order of their names.
func pairs(params map[string]string) string {
	var all []string
	for name, value := range params {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
