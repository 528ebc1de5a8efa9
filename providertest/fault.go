package providertest

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/provider"
)

// Fault is what goes wrong with one request. Its zero value changes nothing.
// What happens, in this order: Latency, Before, the provider acts unless
// NotActed, AnswerLatency, After, and the answer as the rest says. The functions
// below make the usual ones, whose fields may be changed further.
type Fault struct {
	Latency       time.Duration
	Before        func() // may block
	NotActed      bool   // the provider does nothing; it answers 503 where Status says nothing else
	AnswerLatency time.Duration
	After         func() // may block; what the request asked for is done

	Drop   bool                // the connection closes without an answer
	Status int                 // in place of the answer's
	Header map[string]string   // over the answer's; "" removes one
	Set    map[string]any      // (templates) fields of the answer, wherever they stand, or new ones at the top; not at the API
	Unset  []string            // fields of the answer, wherever they stand
	Body   func([]byte) []byte // in place of the answer's; nil bytes for none
	Cut    int                 // bytes of the body after which the connection closes; -1 for none of them
}

// Rule says which requests a fault comes to. Of several rules the first that
// fits counts.
type Rule struct {
	Times int           // how many requests; 0 is without limit
	Until time.Time     // zero is without end
	Kind  provider.Kind // "" fits all requests for tokens, Everything all
	Grant string        // "" fits all
	Fault Fault
	// Pick decides in place of Fault, and whether the rule fits at all. It must
	// not call the simulator.
	Pick func(Request) (Fault, bool)
}

// DropBefore closes the connection before the provider acted.
func DropBefore() Fault { return Fault{NotActed: true, Drop: true} }

// DropAfter closes the connection when the provider acted: the answer is lost.
func DropAfter() Fault { return Fault{Drop: true} }

// BadGateway answers 502 with a page when the provider acted.
func BadGateway() Fault { return Page(http.StatusBadGateway) }

// Page answers with an HTML page when the provider acted.
func Page(status int) Fault {
	page := "<!doctype html><html><title>" + http.StatusText(status) + "</title><h1>" + http.StatusText(status) + "</h1></html>"
	return Fault{Status: status, Header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, Body: func([]byte) []byte { return []byte(page) }}
}

// Unavailable answers 503 or 429 or the like, and the provider did not act.
// retryAfter is the header, in seconds or as a date; none where "".
func Unavailable(status int, retryAfter string) Fault {
	return Fault{NotActed: true, Status: status, Header: map[string]string{"Retry-After": retryAfter}}
}

// Redirect answers 307 with another address, and the provider did not act.
func Redirect(location string) Fault {
	return Fault{NotActed: true, Status: http.StatusTemporaryRedirect, Header: map[string]string{"Location": location}}
}

// Cut breaks the body off after n bytes; 0 leaves only the headers.
func Cut(n int) Fault {
	if n == 0 {
		n = -1
	}
	return Fault{Cut: n}
}

// Huge puts n bytes into the answer, between its tokens.
func Huge(n int) Fault { return Set("padding", strings.Repeat("x", n)) }

// Empty answers 200 without a body.
func Empty() Fault { return Fault{Body: func([]byte) []byte { return nil }} }

// ByteOrderMark puts one before the body.
func ByteOrderMark() Fault {
	return Fault{Body: func(body []byte) []byte { return append([]byte("\ufeff"), body...) }}
}

// Type answers with another content type; none where "".
func Type(content string) Fault { return Fault{Header: map[string]string{"Content-Type": content}} }

// Set changes a field of the answer: "3600", 3599.5, "", nil for null, or
// a template such as "{expires_at}".
func Set(field string, value any) Fault { return Fault{Set: map[string]any{field: value}} }

// Unset leaves fields of the answer out.
func Unset(fields ...string) Fault { return Fault{Unset: fields} }

// Inject adds a rule behind those that there are.
func (s *Simulator) Inject(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &rule)
}

// Clear takes all rules away.
func (s *Simulator) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// fault is what goes wrong with a request, by the first rule that fits. It holds
// the mutex.
func (s *Simulator) fault(q Request) Fault {
	for i, rule := range s.rules {
		if !rule.fits(q) {
			continue
		}
		fault := rule.Fault
		if rule.Pick != nil {
			var picked bool
			if fault, picked = rule.Pick(q); !picked {
				continue
			}
		}
		if rule.Times > 0 {
			if rule.Times--; rule.Times == 0 {
				s.rules = slices.Delete(s.rules, i, i+1)
			}
		}
		return fault
	}
	return Fault{}
}

func (r *Rule) fits(q Request) bool {
	switch {
	case !r.Until.IsZero() && !q.At.Before(r.Until), r.Grant != "" && r.Grant != q.Grant:
		return false
	case r.Kind == "":
		return forTokens(q.Kind)
	}
	return r.Kind == Everything || r.Kind == q.Kind
}

// send writes an answer as the fault has it.
func (f Fault) send(w http.ResponseWriter, a answer) {
	if f.Drop {
		panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
	}
	body := a.body
	if f.Body != nil {
		body = f.Body(body)
	}
	maps.Copy(w.Header(), a.header)
	for name, value := range f.Header {
		if value == "" {
			w.Header()[http.CanonicalHeaderKey(name)] = nil // and net/http guesses none
			continue
		}
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(cmp.Or(f.Status, a.status))
	if f.Cut == 0 {
		w.Write(body)
		return
	}
	w.Write(body[:min(max(f.Cut, 0), len(body))])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
