package main

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
)

func TestHabitsCommand(t *testing.T) {
	s := start(t, t.TempDir(), seeds+"    - {username: ann, password: correct horse}\n")
	s.script(t, []command{
		{args: "client habits", out: `^$`, error: "^nothing that a stricter setting would end was seen; what a client relies on is counted as it comes\n$"},
		{args: "client habits --json", out: `^\[\]\n$`, error: `^$`},
		{args: "client habits nobody", out: `^$`, error: `^nothing that`},
	})
	first := s.login()
	s.refresh(first.Refresh)
	s.refresh(first.Refresh)
	const stamp = `\d{4}-\d\d-\d\dT\S+`
	s.script(t, []command{
		{args: "client habits", error: `^$`, out: `^CLIENT +HABIT +THE CLIENT +SETTING +WHICH\n` +
			`TestClient +password_grant +asks resource owners for their passwords +grant_types: without password +would break: 1 request since ` + stamp + `, last ` + stamp + `\n` +
			`TestClient +retried_refresh_token +refreshes again with the refresh token that it has just used +refresh_token_retry_window: 0 +would break: 1 request since ` + stamp + `, last ` + stamp + `\n$`},
		{args: "client habits TestClient --json", out: `(?s)^\[\n  \{\n    "client_id": "TestClient",\n    "habit": "password_grant",\n    "count": 1,\n    "first": "` + stamp + `",\n    "last": "` + stamp +
			`",\n    "does": "asks resource owners for their passwords",\n    "setting": "grant_types: without password",\n    "past": false\n  \},`},
		// One setting at a time: what it ends is past, and the rest is not.
		{args: "client update TestClient --refresh-token-retry-window 0", error: `^the client is declared in the configuration file, which wins at the next start: change it there as well\n$`},
		{args: "client habits TestClient", out: `password_grant .* would break: 1 request since .*\n.*retried_refresh_token .* refresh_token_retry_window: 0 +is in force, past: 1 request since `},
		{args: "client habits --forget", code: exitUsage, error: `^evergrant: --forget needs the ID of a client\n`},
		{args: "client habits nobody --forget", code: exitFailed, error: `^evergrant: there is no client nobody on this server\n`},
		{args: "client habits a b", code: exitUsage, error: `^evergrant: expected as arguments: evergrant client habits \[ID\]`},
		{args: "client habits TestClient --forget", out: `^forgotten what client TestClient relied on; it is counted anew\n$`},
		{args: "client habits TestClient", out: `^$`, error: `^nothing that`},
		{args: "client habits TestClient --forget --json", out: `"forgotten": true`},
	})
	s.login()
	s.login()
	if out := s.ok("client", "habits"); !strings.Contains(out, "would break: 2 requests since ") {
		t.Errorf("counted anew: %s", out)
	}
}

func TestConsequence(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local)
	when := "12 requests since " + localTime(at) + ", last " + localTime(at.Add(time.Hour))
	h := evergrant.Habit{Count: 12, First: at, Last: at.Add(time.Hour), Setting: "profile: standard"}
	for want, change := range map[string]func(*evergrant.Habit){
		"would break: " + when:                      func(*evergrant.Habit) {},
		"is in force, past: " + when:                func(h *evergrant.Habit) { h.Past = true },
		"is not needed, it ends by itself: " + when: func(h *evergrant.Habit) { h.Setting = "" },
	} {
		is := h
		if change(&is); consequence(is) != want {
			t.Errorf("%q, want %q", consequence(is), want)
		}
	}
}
