package web

import (
	"net/http"
	"strings"

	"github.com/evergrant/evergrant/issuer"
)

// listHabits says what clients rely on, up to this moment.
func (a *api) listHabits(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r, "client")
	if err != nil {
		return err
	}
	filter := issuer.UseFilter{ClientID: l.query.Get("client"), Limit: l.ask()}
	if l.cursor != "" {
		// A habit's name has no colon, and a client's id may.
		habit, client, ok := strings.Cut(l.cursor, ":")
		if !ok {
			return badCursor()
		}
		filter.AfterClient, filter.AfterHabit = client, issuer.Habit(habit)
	}
	habits, err := a.Admin.Habits(r.Context(), filter)
	if err != nil {
		return err
	}
	return writePage(w, l, habits, func(h issuer.Reliance) issuer.Reliance { return h },
		func(h issuer.Reliance) string { return string(h.Habit) + ":" + h.ClientID })
}

func (a *api) forgetHabits(w http.ResponseWriter, r *http.Request) error {
	if err := a.Admin.ForgetHabits(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
