package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/oauth"
)

// Bounds of streams of events.
const (
	heartbeat   = 15 * time.Second // so that nobody on the way takes the connection for dead
	streamWrite = 30 * time.Second // for a listener who does not read
	maxStreams  = 1000
)

// streamEvents sends events as they come (server-sent events, HTML Living
// Standard section 9.2). Last-Event-ID is where to go on after a break; without
// it the stream begins with the events to come.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request) error {
	if a.tail == nil {
		return refuse(http.StatusNotFound, "This server has no stream of events.", "")
	}
	filter, err := a.readStreamFilter(r)
	if err != nil {
		return err
	}
	last := int64(-1)
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		if last, err = strconv.ParseInt(text, 10, 64); err != nil || last < 0 {
			return badRequest("Last-Event-ID is not the id of an event.", "leave it out to begin with the events to come")
		}
	}
	defer a.streams.Add(-1)
	if a.streams.Add(1) > maxStreams {
		return refuse(http.StatusServiceUnavailable, "There are too many streams of events.", "close some, or read the list of events instead")
	}
	newest, leave, err := a.tail.join(r.Context())
	if err != nil {
		return err
	}
	defer leave()
	if last < 0 || last > newest { // a restored database has given fewer ids
		last = newest
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies should pass on what comes
	w.WriteHeader(http.StatusOK)
	a.stream(w, r, filter, last)
	return nil
}

// stream writes until the listener or the server ends.
func (a *api) stream(w http.ResponseWriter, r *http.Request, filter streamFilter, last int64) {
	unhurried(w)
	connection := http.NewResponseController(w)
	send := func(text []byte) bool {
		_ = connection.SetWriteDeadline(a.Now().Add(streamWrite))
		if _, err := w.Write(text); err != nil {
			return false
		}
		return connection.Flush() == nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if !send([]byte("retry: 2000\n: the events follow as they come\n\n")) {
		return
	}
	for {
		events, next, changed, err := a.tail.since(r.Context(), last)
		if err != nil {
			return // the listener comes again with its Last-Event-ID
		}
		last = next
		if text := streamed(filter, events); len(text) > 0 && !send(text) {
			return
		}
		if changed == nil {
			continue
		}
		select {
		case <-changed:
		case <-beat.C:
			if !a.stays(r) {
				return
			}
			// The id moves where to go on, past events that the filter left out.
			if !send(fmt.Appendf(nil, ": still here\nid: %d\n\n", last)) {
				return
			}
		case <-r.Context().Done():
			return
		case <-a.Stopping:
			return
		}
	}
}

// stays reports whether a listener may go on: access tokens expire and are
// revoked, and clients change.
func (a *api) stays(r *http.Request) bool {
	was := callerOf(r)
	if was.operator {
		return true
	}
	token, _ := oauth.BearerToken(r.Header.Get("Authorization"))
	is, err := a.caller(r.Context(), token)
	return err == nil && is.may(ScopeRead) && is.sees(was.client.Tenant)
}

// streamed are the events that a filter chooses, as a stream writes them.
func streamed(filter streamFilter, events []hook.Event) []byte {
	var text []byte
	for _, e := range events {
		if filter.chooses(e) {
			text = fmt.Appendf(text, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, bytes.ReplaceAll(e.Document, []byte("\n"), []byte("\ndata: ")))
		}
	}
	return text
}

// streamFilter chooses events of a stream. Empty fields do not choose.
type streamFilter struct {
	eventType  string
	of         map[string]string // members of the event, by name
	keeperOnly bool              // the issuer's are left out, for whoever is not the operator
}

// members are the names that filters have in events, where they differ.
var members = map[string]string{"client": "client_id"}

// readStreamFilter reads the query of a stream, which has the filters of a list.
func (a *api) readStreamFilter(r *http.Request) (f streamFilter, err error) {
	query := r.URL.Query()
	allowed := append(append([]string{"type"}, issuerFilters...), keeperFilters...)
	f = streamFilter{eventType: query.Get("type"), of: map[string]string{}}
	for name, values := range query {
		if !slices.Contains(allowed, name) || len(values) > 1 {
			return f, badRequest(fmt.Sprintf("A stream of events cannot be filtered by the query parameter %q, or by two of it.", name), "use "+strings.Join(allowed, ", "))
		}
		if name != "type" && values[0] != "" {
			f.of[cmp.Or(members[name], name)] = values[0]
		}
	}
	if _, _, err := a.whoseEvents(r, query); err != nil {
		return f, err
	}
	tenant, err := callerOf(r).choose(query.Get("tenant"))
	if tenant != nil {
		f.of["tenant"] = *tenant
	}
	f.keeperOnly = !callerOf(r).operator
	return f, err
}

// chooses reports whether a filter chooses an event.
func (f streamFilter) chooses(e hook.Event) bool {
	if !isOfType(e.Type, f.eventType) || f.keeperOnly && !isKeepers(e.Type) {
		return false
	}
	if len(f.of) == 0 {
		return true
	}
	var document map[string]any
	if err := json.Unmarshal(e.Document, &document); err != nil {
		return false
	}
	for name, want := range f.of {
		if is, _ := document[name].(string); is != want { // what is absent is empty
			return false
		}
	}
	return true
}

// isKeepers reports whether events of a type are about connections or providers.
func isKeepers(eventType string) bool {
	return strings.HasPrefix(eventType, "connection.") || strings.HasPrefix(eventType, "provider.")
}
