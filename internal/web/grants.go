package web

import (
	"net/http"

	"github.com/evergrant/evergrant/issuer"
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

func readGrantID(s string) (issuer.GrantID, error) {
	id, err := issuer.ParseGrantID(s)
	if err != nil {
		return id, badRequest("A grant id has 32 hexadecimal digits.", "")
	}
	return id, nil
}
