package web

import (
	"net/http"
	"strconv"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// grantDocument is a grant as the API shows it.
type grantDocument struct {
	issuer.Grant
	Alive bool `json:"alive"` // its code or refresh token can still be used
}

func (a *api) document(g issuer.Grant) grantDocument { return grantDocument{g, g.Live(a.Now())} }

func (a *api) listGrants(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r, "client", "subject")
	if err != nil {
		return err
	}
	filter := issuer.GrantFilter{ClientID: l.query.Get("client"), Subject: l.query.Get("subject"), Limit: l.ask()}
	if l.cursor != "" {
		if filter.After, err = issuer.ParseGrantID(l.cursor); err != nil {
			return badCursor()
		}
	}
	grants, err := a.Admin.Lists().Grants(r.Context(), filter)
	if err != nil {
		return err
	}
	return writePage(w, l, grants, a.document, func(g issuer.Grant) string { return g.ID.String() })
}

func (a *api) showGrant(w http.ResponseWriter, r *http.Request) error {
	id, err := readGrantID(r.PathValue("id"))
	if err != nil {
		return err
	}
	grant, err := a.Database.Grant(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a.document(grant))
}

func (a *api) revokeGrant(w http.ResponseWriter, r *http.Request) error {
	id, err := readGrantID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := a.Admin.RevokeGrant(r.Context(), a.operator(r), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) listEvents(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r, "grant", "client", "subject", "type")
	if err != nil {
		return err
	}
	filter := issuer.EventFilter{
		ClientID: l.query.Get("client"), Subject: l.query.Get("subject"), Type: l.query.Get("type"), Limit: l.ask(),
	}
	if id := l.query.Get("grant"); id != "" {
		if filter.Grant, err = readGrantID(id); err != nil {
			return err
		}
	}
	if l.cursor != "" {
		filter.Before, err = strconv.ParseInt(l.cursor, 10, 64)
		if err != nil || filter.Before < 1 {
			return badCursor()
		}
	}
	events, err := a.Admin.Lists().Events(r.Context(), filter)
	if err != nil {
		return err
	}
	show := func(e issuer.Event) issuer.Event { return e }
	return writePage(w, l, events, show, func(e issuer.Event) string { return strconv.FormatInt(e.ID, 10) })
}

func (a *api) explain(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Of secret.Text `json:"of"` // may be a token
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.Of.Empty() {
		return badRequest(`The field "of" is missing.`, "set it to the id of a grant, or to a token")
	}
	explanation, err := a.Admin.Explain(r.Context(), body.Of.Reveal())
	if err != nil {
		return err
	}
	answer := struct {
		issuer.Explanation
		Grant *grantDocument `json:"grant,omitempty"` // instead of the explanation's
	}{Explanation: explanation}
	if explanation.Grant != nil {
		document := a.document(*explanation.Grant)
		answer.Grant = &document
	}
	return writeJSON(w, http.StatusOK, answer)
}

func readGrantID(s string) (issuer.GrantID, error) {
	id, err := issuer.ParseGrantID(s)
	if err != nil {
		return id, badRequest("A grant id has 32 hexadecimal digits.", "")
	}
	return id, nil
}
