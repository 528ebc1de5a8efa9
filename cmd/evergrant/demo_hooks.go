package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant"
)

// hooksPath is where the application of the demo hears webhooks.
const hooksPath = "/hooks"

// receiver is an application's end of a webhook: what every receiver should do,
// written without the code of the sender.
type receiver struct {
	now func() time.Time

	mu      sync.Mutex
	secret  string
	taken   []notice
	refused int
}

// notice is an event that a webhook told.
type notice struct {
	Type string          `json:"type"`
	Data evergrant.Event `json:"data"`

	signature string
	body      []byte
}

// staleAfter is the age from which on a signature is not taken, so that nobody
// sends an old message again.
const staleAfter = 5 * time.Minute

func (h *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := notice{signature: r.Header.Get("Evergrant-Signature"), body: body}
	if !h.genuine(n.signature, body) || json.Unmarshal(body, &n) != nil {
		h.refused++
		http.Error(w, "this is not from the server whose secret I know", http.StatusForbidden)
		return
	}
	h.taken = append(h.taken, n)
}

// genuine checks a signature "t=UNIX,v1=HEX" over the time, a dot and the body.
func (h *receiver) genuine(signature string, body []byte) bool {
	at, given, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",v1=")
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil || h.now().Sub(time.Unix(unix, 0)).Abs() > staleAfter {
		return false
	}
	mac := hmac.New(sha256.New, []byte(h.secret))
	mac.Write(append([]byte(at+"."), body...))
	sum, err := hex.DecodeString(given)
	return err == nil && hmac.Equal(sum, mac.Sum(nil))
}

// heard are the genuine notices of a type about a connection, and how many in
// all were refused.
func (h *receiver) heard(eventType, connection string) (found []notice, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.taken {
		if n.Type == eventType && n.Data.Connection == connection {
			found = append(found, n)
		}
	}
	return found, h.refused
}

// command is a command line that computes the signature of a notice.
func (n notice) command(secret string) []string {
	at, _, _ := strings.Cut(strings.TrimPrefix(n.signature, "t="), ",")
	return []string{"printf", "%s", quote(at + "." + string(n.body)), "|", "openssl dgst -sha256", "-hmac " + quote(secret)}
}
