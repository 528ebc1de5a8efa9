package web

import (
	"net/http"
	"strconv"

	"github.com/evergrant/evergrant/internal/hook"
)

// listDeliveries lists the deliveries to webhooks, newest first.
func (a *api) listDeliveries(w http.ResponseWriter, r *http.Request) error {
	if a.Hooks == nil {
		return refuse(http.StatusNotFound, "This server delivers to no webhooks.", "")
	}
	l, err := readListing(r)
	if err != nil {
		return err
	}
	before := int64(0)
	if l.cursor != "" {
		before, err = strconv.ParseInt(l.cursor, 10, 64)
		if err != nil || before < 1 {
			return badCursor()
		}
	}
	deliveries, err := a.Hooks.Deliveries(r.Context(), before, l.ask())
	if err != nil {
		return err
	}
	show := func(d hook.Delivery) hook.Delivery { return d }
	return writePage(w, l, deliveries, show, func(d hook.Delivery) string { return strconv.FormatInt(d.ID, 10) })
}
