package web

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/evergrant/evergrant/keeper"
)

// callbackProblems is what an owner is told of what the keeper refuses.
var callbackProblems = map[keeper.Reason]struct {
	status  int
	title   string
	message string // the refusal's own where ""
}{
	keeper.ReasonBadLink:         {http.StatusNotFound, "This link does not work", "It is damaged, or was not made by this server. Go back to where you found it and ask for a new one."},
	keeper.ReasonLinkExpired:     {http.StatusGone, "This link is too old", "A link works for half an hour. Go back to where you found it and ask for a new one."},
	keeper.ReasonBadState:        {http.StatusBadRequest, "This page was opened from nowhere", "It belongs at the end of connecting, and its address is not one that this server made. Nothing was connected. Begin again with a connect link."},
	keeper.ReasonStateExpired:    {http.StatusBadRequest, "That took too long", "More than half an hour has passed since you left for the other service. Nothing was connected. Begin again."},
	keeper.ReasonOtherBrowser:    {http.StatusBadRequest, "This is another browser", "You began in another browser, or this one keeps no cookies. Nothing was connected. Begin again, and stay in one browser."},
	keeper.ReasonReplayed:        {http.StatusConflict, "This page was opened before", "Each answer of the other service counts once. If it is not connected, begin again."},
	keeper.ReasonDenied:          {http.StatusOK, "Nothing was connected", "You said no at the other service. If that was a mistake, try again."},
	keeper.ReasonProviderError:   {http.StatusBadGateway, "The other service answered with an error", ""},
	keeper.ReasonBadCallback:     {http.StatusBadGateway, "The other service answered with something else", ""},
	keeper.ReasonCodeRefused:     {http.StatusBadGateway, "The other service gave no access", ""},
	keeper.ReasonUnknownProvider: {http.StatusNotFound, "This service is not known here any more", "Whoever runs this server has removed it. Ask them."},
}

// showProblem tells the owner what went wrong and what to do. in is what was to
// be connected, where that is known.
func (p *connectPages) showProblem(w http.ResponseWriter, r *http.Request, in keeper.Connect, err error) {
	status, page := p.problem(r, err)
	if in.ReturnURL != "" {
		outcome := "failed"
		if refusal, ok := errors.AsType[*keeper.Refusal](err); ok && refusal.Reason == keeper.ReasonDenied {
			outcome = "denied"
		}
		page.Back, page.BackName = returnTo(in.ReturnURL, in.Connection, outcome), destination(in.ReturnURL)
	}
	if in.Provider != "" {
		if session, err := p.session(r.Context(), in); err == nil {
			page.Retry = session.URL
		}
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	p.look.show(w, status, "connect_error", page.Title, page)
}

// problem is what is told of an error, with the status.
func (p *connectPages) problem(r *http.Request, err error) (int, connectErrorPage) {
	if refusal, ok := errors.AsType[*keeper.Refusal](err); ok {
		if row, ok := callbackProblems[refusal.Reason]; ok {
			return row.status, connectErrorPage{Title: row.title, Message: cmp.Or(row.message, sentence(refusal.Detail))}
		}
	}
	if unusable, ok := errors.AsType[*keeper.Unusable](err); ok {
		p.Log.WarnContext(r.Context(), "an owner could not connect", "provider", unusable.Provider, "error", err)
		return http.StatusServiceUnavailable, connectErrorPage{Title: "The other service does not answer", Message: "Nothing was connected. Try again in a while."}
	}
	told, ours := problemOf(err)
	if ours {
		p.Log.ErrorContext(r.Context(), "connect page failed", "path", loggedPath(r), "error", err)
		return told.Status, connectErrorPage{Title: "Something went wrong", Message: "The server cannot answer at the moment. Try again in a while."}
	}
	return told.Status, connectErrorPage{Title: "This request cannot be served", Message: told.Detail}
}
