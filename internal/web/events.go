package web

import (
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
)

// The filters of events, by whose events have what they choose by.
var (
	issuerFilters = []string{"grant", "client", "subject"}
	keeperFilters = []string{"connection", "provider", "tenant"}
)

// event is an entry of the log, the issuer's or the keeper's, as the API shows
// it.
type event struct {
	id       int64
	document any
}

// listEvents lists events, newest first, or sends them as they come to whoever
// accepts text/event-stream. A client sees the keeper's for its tenant.
func (a *api) listEvents(w http.ResponseWriter, r *http.Request) error {
	if acceptsStream(r) {
		return a.streamEvents(w, r)
	}
	l, err := readListing(r, append(append([]string{"type"}, issuerFilters...), keeperFilters...)...)
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
	issuers, keepers, err := a.whoseEvents(r, l.query)
	if err != nil {
		return err
	}
	var events []event
	if issuers {
		if events, err = a.issuerEvents(r.Context(), l, before); err != nil {
			return err
		}
	}
	if keepers {
		tenant, err := callerOf(r).choose(l.query.Get("tenant"))
		if err != nil {
			return err
		}
		kept, err := a.keeperEvents(r.Context(), l, tenant, before)
		if err != nil {
			return err
		}
		events = merged(kept, events)
	}
	show := func(e event) any { return e.document }
	return writePage(w, l, events, show, func(e event) string { return strconv.FormatInt(e.id, 10) })
}

// acceptsStream reports whether a request asks for server-sent events.
func acceptsStream(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			if mediaType, _, _ := mime.ParseMediaType(part); mediaType == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

// whoseEvents says whose events a request is about: where no filter decides,
// those of both.
func (a *api) whoseEvents(r *http.Request, query url.Values) (issuers, keepers bool, err error) {
	given := func(name string) bool { return query.Get(name) != "" }
	issuers, keepers = slices.ContainsFunc(issuerFilters, given), slices.ContainsFunc(keeperFilters, given)
	switch {
	case issuers && keepers:
		return false, false, badRequest("No event has both what the issuer and what the keeper is asked for.", "use either "+strings.Join(issuerFilters, ", ")+" or "+strings.Join(keeperFilters, ", "))
	case issuers && !callerOf(r).operator:
		return false, false, refuse(http.StatusForbidden, "Only the operator sees the issuer's events.", "leave out "+strings.Join(issuerFilters, ", "))
	case issuers && a.Admin == nil, keepers && a.Keeper == nil, !callerOf(r).operator && a.Keeper == nil:
		return false, false, refuse(http.StatusNotFound, "The part of the server that has such events is not running here.", "")
	case !issuers && !keepers:
		return a.Admin != nil && callerOf(r).operator, a.Keeper != nil, nil
	}
	return issuers, keepers, nil
}

func (a *api) issuerEvents(ctx context.Context, l listing, before int64) ([]event, error) {
	filter := issuer.EventFilter{
		ClientID: l.query.Get("client"), Subject: l.query.Get("subject"), Type: l.query.Get("type"), Before: before, Limit: l.ask(),
	}
	if id := l.query.Get("grant"); id != "" {
		grant, err := readGrantID(id)
		if err != nil {
			return nil, err
		}
		filter.Grant = grant
	}
	listed, err := a.Admin.Lists().Events(ctx, filter)
	events := make([]event, 0, len(listed))
	for _, e := range listed {
		events = append(events, event{e.ID, e})
	}
	return events, err
}

func (a *api) keeperEvents(ctx context.Context, l listing, tenant *string, before int64) ([]event, error) {
	filter := keeper.EventFilter{
		Connection: l.query.Get("connection"), Provider: l.query.Get("provider"), Tenant: tenant,
		Before: before, Limit: l.ask(),
	}
	eventType := l.query.Get("type")
	if eventType != "" {
		filter.Limit = 2 * maxLimit // few of them may be of the type
	}
	var events []event
	for len(events) < l.ask() {
		listed, err := a.Events.Events(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, e := range listed {
			if isOfType(e.Type, eventType) {
				events = append(events, event{e.ID, e})
			}
		}
		if len(listed) < filter.Limit {
			break
		}
		filter.Before = listed[len(listed)-1].ID
	}
	return events, nil
}

// isOfType reports whether an event is of a type, or of a prefix that ends in a
// dot, or asked for whatever its type is.
func isOfType(is, asked string) bool {
	return asked == "" || is == asked || strings.HasSuffix(asked, ".") && strings.HasPrefix(is, asked)
}

// merged are the events of two lists, newest first. Of an event that is in both
// the one of the first list is taken.
func merged(first, second []event) []event {
	all := slices.Concat(first, second)
	slices.SortStableFunc(all, func(x, y event) int { return cmp.Compare(y.id, x.id) })
	return slices.CompactFunc(all, func(x, y event) bool { return x.id == y.id })
}

// connectionHistory lists the events of one connection, newest first.
func (a *api) connectionHistory(w http.ResponseWriter, r *http.Request) error {
	l, err := readListing(r)
	if err != nil {
		return err
	}
	c, err := a.connection(r)
	if err != nil {
		return err
	}
	filter := keeper.EventFilter{Connection: c.ID, Tenant: &c.Tenant, Limit: l.ask()}
	if l.cursor != "" {
		filter.Before, err = strconv.ParseInt(l.cursor, 10, 64)
		if err != nil || filter.Before < 1 {
			return badCursor()
		}
	}
	events, err := a.Events.Events(r.Context(), filter)
	if err != nil {
		return err
	}
	show := func(e keeper.Event) keeper.Event { return e }
	return writePage(w, l, events, show, func(e keeper.Event) string { return strconv.FormatInt(e.ID, 10) })
}

// explain says why a grant, a token or a connection is alive or dead. Only the
// operator asks about what is the issuer's.
func (a *api) explain(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Of secret.Text `json:"of"` // may be a token
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.Of.Empty() {
		return badRequest(`The field "of" is missing.`, "set it to the id of a grant or connection, or to a token")
	}
	if a.Admin != nil && callerOf(r).operator {
		explanation, err := a.Admin.Explain(r.Context(), body.Of.Reveal())
		if err == nil {
			return writeJSON(w, http.StatusOK, a.grantExplanation(explanation))
		}
		if !errors.Is(err, issuer.ErrNotFound) || a.Keeper == nil {
			return err
		}
	}
	if a.Keeper == nil {
		return keeper.ErrNotFound
	}
	explanation, err := a.Keeper.Explain(r.Context(), body.Of.Reveal())
	if err != nil {
		return err
	}
	if !callerOf(r).sees(explanation.Connection.Tenant) {
		return keeper.ErrNotFound
	}
	return writeJSON(w, http.StatusOK, connectionExplanation{"connection", explanation})
}

// grantExplanation is an explanation with the grant as the API shows it.
func (a *api) grantExplanation(explanation issuer.Explanation) any {
	answer := struct {
		issuer.Explanation
		Grant *grantDocument `json:"grant,omitempty"` // instead of the explanation's
	}{Explanation: explanation}
	if explanation.Grant != nil {
		document := a.document(*explanation.Grant)
		answer.Grant = &document
	}
	return answer
}
