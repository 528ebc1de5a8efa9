package hook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Hook is one webhook: where events go, and which.
type Hook struct {
	Name   string      // in the log of deliveries; of one webhook only
	URL    string      // http or https
	Secret secret.Text // that the receiver knows, too; see [Sign]
	Events []string    // event types, or prefixes such as connection.*; all where empty
}

// Check says what is wrong with a webhook, or nil.
func (h Hook) Check() error {
	u, err := url.Parse(h.URL)
	switch {
	case h.Name == "":
		return fmt.Errorf("a webhook needs a name")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("webhook %s: the URL must begin with https:// or http:// and have a host", h.Name) // it may hold a secret
	case h.Secret.Empty():
		return fmt.Errorf("webhook %s: give it a secret, by which the receiver knows what comes from here", h.Name)
	}
	for _, pattern := range h.Events {
		if prefix, ok := strings.CutSuffix(pattern, "*"); strings.Contains(prefix, "*") || pattern == "" || ok && prefix != "" && !strings.HasSuffix(prefix, ".") {
			return fmt.Errorf("webhook %s: %q is not an event type, nor a prefix such as connection.*", h.Name, pattern)
		}
	}
	return nil
}

// wants reports whether events of a type go to the webhook.
func (h Hook) wants(eventType string) bool {
	return len(h.Events) == 0 || slices.ContainsFunc(h.Events, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(eventType, prefix)
		}
		return pattern == eventType
	})
}

// Sign is the header Evergrant-Signature of a delivery that is sent at a time:
// "t=UNIX,v1=HEX", with the HMAC-SHA-256 under the webhook's secret of the time,
// a dot and the body. The receiver computes the same, compares in constant time,
// and refuses times that are minutes away.
func Sign(key secret.Text, at time.Time, body []byte) string {
	unix := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte(unix + "."))
	mac.Write(body)
	return "t=" + unix + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
