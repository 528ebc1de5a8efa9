package pgtest

import (
	"strings"
	"testing"
)

// TestPooler holds that more clients than sessions are served at once, that a
// session does not stay with its client, and that a killed pooler comes back.
func TestPooler(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Create(t, "a")
	p := s.Pooler(t)
	var clients []*session
	for range 25 {
		c := connect(t, p.URL("a"))
		c.ask("SELECT 'here'")
		if got := c.answer(); got != "here" {
			t.Fatalf("answer %q", got)
		}
		clients = append(clients, c)
	}
	if sessions := s.Exec(t, "", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'a'"); sessions != "1" {
		t.Errorf("%s sessions for clients that came one after the other", sessions)
	}
	clients[0].ask("BEGIN")
	clients[0].ask("SELECT 'holds one'")
	clients[0].answer()
	clients[1].ask("SELECT 'on another'")
	if got := clients[1].answer(); got != "on another" {
		t.Errorf("answer %q", got)
	}
	p.Kill(t)
	if _, err := trySQL(p.URL("a"), "SELECT 1"); err == nil {
		t.Error("a killed pooler answers")
	}
	p.Restart(t)
	if got := sql(t, p.URL("a"), "SELECT 1"); got != "1" {
		t.Errorf("answer %q", got)
	}
	p.Kill(t)
	p.port = s.port
	if err := p.begin(); err == nil || !strings.Contains(err.Error(), "pgbouncer does not start") {
		t.Errorf("on a port that is taken: %v", err)
	}
}
