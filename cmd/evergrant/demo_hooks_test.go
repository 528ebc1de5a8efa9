package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/hook"
	"github.com/evergrant/evergrant/secret"
)

const toldBody = `{"id":7,"type":"connection.reauthorize","at":"2026-06-01T12:00:00Z","data":{"id":7,"type":"connection.reauthorize","connection":"eventix-bob"}}`

func hookTime() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// sign is what the server signs with, for a receiver that has its own code.
func sign(key string, at time.Time, body string) string {
	return hook.Sign(secret.NewText(key), at, []byte(body))
}

func TestReceiver(t *testing.T) {
	good := sign(demoHookSecret, hookTime(), toldBody)
	for _, test := range []struct {
		name, signature, body string
		status                int
	}{
		{"genuine", good, toldBody, http.StatusOK},
		{"sent minutes ago", sign(demoHookSecret, hookTime().Add(-4*time.Minute), toldBody), toldBody, http.StatusOK},
		{"another secret", sign("AnotherSecret", hookTime(), toldBody), toldBody, http.StatusForbidden},
		{"another body", good, strings.Replace(toldBody, "bob", "eve", 1), http.StatusForbidden},
		{"sent long ago", sign(demoHookSecret, hookTime().Add(-staleAfter-time.Second), toldBody), toldBody, http.StatusForbidden},
		{"sent in the future", sign(demoHookSecret, hookTime().Add(staleAfter+time.Second), toldBody), toldBody, http.StatusForbidden},
		{"another time", strings.Replace(good, strconv.FormatInt(hookTime().Unix(), 10), strconv.FormatInt(hookTime().Unix()+1, 10), 1), toldBody, http.StatusForbidden},
		{"cut", good[:len(good)-2], toldBody, http.StatusForbidden},
		{"no hex", good[:len(good)-2] + "zz", toldBody, http.StatusForbidden},
		{"no signature", "", toldBody, http.StatusForbidden},
		{"no time", "v1=00", toldBody, http.StatusForbidden},
		{"no JSON", sign(demoHookSecret, hookTime(), "{"), "{", http.StatusForbidden},
		{"without end", good, strings.Repeat(" ", mostBody+1), http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &receiver{secret: demoHookSecret, now: hookTime}
			req := httptest.NewRequest(http.MethodPost, hooksPath, strings.NewReader(test.body))
			req.Header.Set("Evergrant-Signature", test.signature)
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, req)
			if answer.Code != test.status {
				t.Errorf("answered with %d", answer.Code)
			}
			found, refused := h.heard("connection.reauthorize", "eventix-bob")
			if wants := test.status == http.StatusOK; (len(found) == 1) != wants || (refused == 1) != (test.status == http.StatusForbidden) {
				t.Errorf("heard %d, refused %d", len(found), refused)
			}
		})
	}
}

func TestHeardChooses(t *testing.T) {
	h := &receiver{secret: demoHookSecret, now: hookTime}
	for _, body := range []string{toldBody, strings.ReplaceAll(toldBody, "bob", "eve"), strings.ReplaceAll(toldBody, "reauthorize", "recovered")} {
		req := httptest.NewRequest(http.MethodPost, hooksPath, strings.NewReader(body))
		req.Header.Set("Evergrant-Signature", sign(demoHookSecret, hookTime(), body))
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	for _, test := range []struct {
		event, connection string
		want              int
	}{
		{"connection.reauthorize", "eventix-bob", 1}, {"connection.recovered", "eventix-bob", 1}, {"connection.reauthorize", "eventix-eve", 1},
		{"connection.recovered", "eventix-eve", 0}, {"connection.reauthorize", "", 0},
	} {
		if found, refused := h.heard(test.event, test.connection); len(found) != test.want || refused != 0 {
			t.Errorf("%s of %q: heard %d, refused %d", test.event, test.connection, len(found), refused)
		}
	}
}

// TestSignatureCommand pastes the line that computes a signature, as far as it
// needs nothing but a shell: what it signs.
func TestSignatureCommand(t *testing.T) {
	body := `{"detail":"it's \"50 %\" \\n of $HOME"}`
	words := notice{signature: sign(demoHookSecret, hookTime(), body), body: []byte(body)}.command("it's secret")
	line := strings.Join(words, " ")
	printing, rest, _ := strings.Cut(line, " | ")
	printed, err := exec.CommandContext(t.Context(), "sh", "-c", printing).Output()
	if want := strconv.FormatInt(hookTime().Unix(), 10) + "." + body; err != nil || string(printed) != want {
		t.Errorf("%s printed %q, %v; signed is %q", printing, printed, err, want)
	}
	if rest != `openssl dgst -sha256 -hmac 'it'\''s secret'` {
		t.Errorf("it goes to %s", rest)
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add(sign(demoHookSecret, hookTime(), toldBody), toldBody)
	f.Add("t=1,v1=", "")
	f.Add("t=-9223372036854775808,v1=00", "{}")
	f.Add(",v1=t=", "x")
	f.Fuzz(func(t *testing.T, signature, body string) {
		h := &receiver{secret: demoHookSecret, now: hookTime}
		if !h.genuine(signature, []byte(body)) {
			return
		}
		at, _, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",")
		unix, _ := strconv.ParseInt(at, 10, 64)
		if strconv.FormatInt(unix, 10) == at && !strings.EqualFold(strings.TrimPrefix(signature, "t="), strings.TrimPrefix(sign(demoHookSecret, time.Unix(unix, 0), body), "t=")) {
			t.Errorf("%q passes for a signature of %q", signature, body)
		}
	})
}
