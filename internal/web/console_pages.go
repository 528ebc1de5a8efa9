package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
)

// Pages of the console: rows at once, and seconds after which the newest events
// are loaded again.
const (
	consoleRows    = 50
	consoleRefresh = 10
)

// moment is a time as a page shows it.
type moment struct{ Text, Full string }

// moment is a time in words, as far from now as it is.
func (c *console) moment(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := moment{"now", t.UTC().Format(time.RFC3339)}
	switch away := t.Sub(c.Now()).Round(time.Second); {
	case away > 0:
		m.Text = "in " + span(away)
	case away < 0:
		m.Text = span(-away) + " ago"
	}
	return m
}

// span is a duration in its largest unit that is not too coarse.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " d"
}

// nextURL is the URL of the page after one, with the filters that a request has.
func nextURL(r *http.Request, cursor string) string {
	query := r.URL.Query()
	query.Set("cursor", cursor)
	return "?" + query.Encode()
}

// counted is how many there are in a state.
type counted struct {
	State  keeper.State
	Number int
}

// count adds up the numbers of some providers, in the order of the states.
func count(numbers ...map[keeper.State]int) (all []counted) {
	for _, state := range states {
		sum := 0
		for _, of := range numbers {
			sum += of[keeper.State(state)]
		}
		if sum > 0 {
			all = append(all, counted{keeper.State(state), sum})
		}
	}
	return all
}

type connectionRow struct {
	keeper.Connection
	Expires, Due moment
	LastError    string
}

func (c *console) connections(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := keeper.Filter{
		State: keeper.State(query.Get("state")), Provider: query.Get("provider"), Owner: query.Get("owner"),
		After: query.Get("cursor"), Limit: consoleRows + 1,
	}
	tenant := query.Get("tenant")
	if tenant != "" {
		filter.Tenant = &tenant
	}
	listed, err := c.Connections.Connections(r.Context(), filter)
	if err != nil {
		return err
	}
	counts, err := c.Connections.Counts(r.Context())
	if err != nil {
		return err
	}
	page := struct {
		Frame  frame
		Counts []counted
		Filter struct{ State, Provider, Owner, Tenant string }
		States []string
		// Providers are the configured ones and those that connections are left of.
		Providers []string
		Rows      []connectionRow
		Next      string
	}{Frame: c.frame("connections"), States: states}
	page.Filter.State, page.Filter.Provider, page.Filter.Owner, page.Filter.Tenant = string(filter.State), filter.Provider, filter.Owner, tenant
	var numbers []map[keeper.State]int
	for name, of := range counts {
		page.Providers, numbers = append(page.Providers, name), append(numbers, of)
	}
	for _, p := range c.Providers {
		page.Providers = append(page.Providers, p.Name())
	}
	page.Providers = slices.Compact(slices.Sorted(slices.Values(page.Providers)))
	page.Counts = count(numbers...)
	if len(listed) > consoleRows {
		listed = listed[:consoleRows]
		page.Next = nextURL(r, listed[consoleRows-1].ID)
	}
	for _, connection := range listed {
		page.Rows = append(page.Rows, connectionRow{connection, c.moment(connection.ExpiresAt), c.moment(connection.DueAt), lastError(connection)})
	}
	c.look.show(w, http.StatusOK, "console_connections", "Connections", page)
	return nil
}

type providerRow struct {
	providerDocument
	Since     moment
	Counts    []counted
	Lifetimes string
	Recovery  string
}

func (c *console) providers(w http.ResponseWriter, r *http.Request) error {
	documents, err := c.providerDocuments(r.Context(), nil)
	if err != nil {
		return err
	}
	page := struct {
		Frame frame
		Rows  []providerRow
	}{Frame: c.frame("providers")}
	for _, d := range documents {
		page.Rows = append(page.Rows, providerRow{d, c.moment(d.Since), count(d.Connections), lifetimes(d), recovery(d)})
	}
	c.look.show(w, http.StatusOK, "console_providers", "Providers", page)
	return nil
}

// lifetimes says in words what a definition tells of them.
func lifetimes(d providerDocument) string {
	var parts []string
	for _, known := range []struct {
		what string
		long oauth.Lifetime
	}{{"access token", d.AccessTokenLifetime}, {"unused", d.RefreshTokenIdle}, {"grant", d.GrantLifetime}} {
		if known.long > 0 {
			parts = append(parts, known.what+" "+known.long.String())
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "as the provider tells")
}

// recovery says in words what is done when an answer was lost.
func recovery(d providerDocument) string {
	switch {
	case d.Remints || !d.NeedsOwner:
		return "new tokens without the owner"
	case d.Rotation == "fixed":
		return "the same refresh token again"
	case d.ReplayWindow > 0:
		return "the same refresh token again within " + d.ReplayWindow.String()
	}
	return "in doubt until the access token is over"
}

type grantRow struct {
	ID, State, Client, Subject, Scope string
	Cause                             issuer.Cause
	Generation                        uint32
	Used, Expires                     moment
}

func (c *console) grants(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := issuer.GrantFilter{ClientID: query.Get("client"), Subject: query.Get("subject"), Limit: consoleRows + 1}
	if cursor := query.Get("cursor"); cursor != "" {
		var err error
		if filter.After, err = issuer.ParseGrantID(cursor); err != nil {
			return badCursor()
		}
	}
	listed, err := c.Admin.Lists().Grants(r.Context(), filter)
	if err != nil {
		return err
	}
	page := struct {
		Frame           frame
		Client, Subject string
		Rows            []grantRow
		Next            string
	}{Frame: c.frame("grants"), Client: filter.ClientID, Subject: filter.Subject}
	if len(listed) > consoleRows {
		listed = listed[:consoleRows]
		page.Next = nextURL(r, listed[consoleRows-1].ID.String())
	}
	for _, g := range listed {
		row := grantRow{g.ID.String(), "alive", g.ClientID, g.Subject, g.Scope.String(), g.RevokedCause, g.Generation, c.moment(g.RotatedAt), c.moment(g.ExpiresAt)}
		switch {
		case !g.RevokedAt.IsZero():
			row.State = "revoked"
		case !g.Live(c.Now()):
			row.State = "expired"
		}
		page.Rows = append(page.Rows, row)
	}
	c.look.show(w, http.StatusOK, "console_grants", "Grants", page)
	return nil
}

// eventRow is an event of either part.
type eventRow struct {
	At                                              moment
	Type, Cause, About, URL, Actor, Address, Detail string
}

func (c *console) eventRow(document any) eventRow {
	switch e := document.(type) {
	case issuer.Event:
		return eventRow{c.moment(e.At), e.Type, string(e.Cause), about(e.ClientID, e.Subject), "", e.Actor, e.Address, e.Detail}
	case keeper.Event:
		row := eventRow{c.moment(e.At), e.Type, string(e.Cause), e.Provider, "", e.Actor, e.Address, e.Detail}
		if e.Connection != "" {
			row.About, row.URL = e.Connection, c.root+"/console/connections/"+url.PathEscape(e.Connection)
		}
		if row.Cause == "" {
			row.Cause = string(e.Class)
		}
		return row
	}
	return eventRow{}
}

// about names who an event of the issuer is about.
func about(client, subject string) string {
	return strings.Trim(client+", "+subject, ", ")
}

func (c *console) events(w http.ResponseWriter, r *http.Request) error {
	before := int64(0)
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		var err error
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return badCursor()
		}
	}
	l := listing{url.Values{}, "", consoleRows}
	var all []event
	if c.Keeper != nil {
		kept, err := c.keeperEvents(r.Context(), l, nil, before)
		if err != nil {
			return err
		}
		all = kept
	}
	if c.Admin != nil {
		issued, err := c.issuerEvents(r.Context(), l, before)
		if err != nil {
			return err
		}
		all = merged(all, issued)
	}
	page := struct {
		Frame  frame
		Events []eventRow
		Next   string
	}{Frame: c.frame("events")}
	if before == 0 {
		page.Frame.Refresh = consoleRefresh
	}
	if len(all) > consoleRows {
		all = all[:consoleRows]
		page.Next = nextURL(r, strconv.FormatInt(all[consoleRows-1].id, 10))
	}
	for _, e := range all {
		page.Events = append(page.Events, c.eventRow(e.document))
	}
	c.look.show(w, http.StatusOK, "console_events", "Events", page)
	return nil
}

type deliveryRow struct {
	hook.Delivery
	State        string
	Created, Due moment
}

func (c *console) deliveries(w http.ResponseWriter, r *http.Request) error {
	before := int64(0)
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		var err error
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return badCursor()
		}
	}
	listed, err := c.Hooks.Deliveries(r.Context(), before, consoleRows+1)
	if err != nil {
		return err
	}
	page := struct {
		Frame frame
		Rows  []deliveryRow
		Next  string
	}{Frame: c.frame("deliveries")}
	if len(listed) > consoleRows {
		listed = listed[:consoleRows]
		page.Next = nextURL(r, strconv.FormatInt(listed[consoleRows-1].ID, 10))
	}
	for _, d := range listed {
		row := deliveryRow{d, "waiting", c.moment(d.CreatedAt), c.moment(d.NextAt)}
		switch {
		case !d.DoneAt.IsZero():
			row.State = "delivered"
		case d.NextAt.IsZero():
			row.State = "given_up"
		}
		page.Rows = append(page.Rows, row)
	}
	c.look.show(w, http.StatusOK, "console_deliveries", "Webhook deliveries", page)
	return nil
}

// sure reports whether a form's box is checked that guards what cannot be
// undone.
func sure(r *http.Request) error {
	if r.PostFormValue("sure") != "yes" {
		return badRequest("Nothing was done: the box was not checked.", "check it, if it is meant")
	}
	return nil
}

// unknownAction refuses a form.
func unknownAction(r *http.Request) error {
	return badRequest(fmt.Sprintf("The form says %q, which this server does not understand.", oauth.Legal(r.PostFormValue("action"))), "")
}
