package postgres

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/jackc/pgx/v5"
)

// TestHostsInOrder holds which of several servers is tried first.
func TestHostsInOrder(t *testing.T) {
	const several = "postgres://a@one:1,two:2,three:3/a?sslmode=prefer"
	for _, c := range []struct {
		url, last string
		want      string // hosts, first to last
	}{
		{several, "", "one one two two three three"},
		{several, "10.0.0.1:1", "one one two two three three"},
		{several, "10.0.0.3:3", "three three one one two two"},
		{several, "10.0.0.3:4", "one one two two three three"},
		{several, "[fe80::2]:2", "two two one one three three"},
		{"postgres://a@two:2/a?sslmode=disable", "10.0.0.2:2", "two"},
		{"host=/tmp,three user=a dbname=a port=3 sslmode=disable", "10.0.0.3:3", "three /tmp"},
	} {
		config, err := pgx.ParseConfig(c.url)
		must(t, err)
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) {
			i := slices.Index([]string{"one", "two", "three"}, host) + 1
			if i == 0 {
				return nil, &net.DNSError{Err: "no such host", Name: host}
			}
			digit := string(rune('0' + i))
			return []string{"fe80::" + digit, "10.0.0." + digit}, nil
		}
		var h hosts
		if c.last != "" {
			h.last.Store(&c.last)
		}
		must(t, h.order(t.Context(), config))
		got := []string{config.Host}
		encrypted := config.TLSConfig != nil
		for _, f := range config.Fallbacks {
			if f.Host == got[len(got)-1] && !encrypted {
				t.Errorf("%s: without TLS first", f.Host)
			}
			got, encrypted = append(got, f.Host), f.TLSConfig != nil
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q after %q: %q", c.url, c.last, got)
		}
	}
}

// TestConnectionsGoTogether lets all connections of a process end at once, as a
// server's end does: nobody meets one of them afterwards.
func TestConnectionsGoTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	var held []interface{ Release() }
	for range defaultConns {
		c, err := db.acquire(t.Context())
		must(t, err)
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
	const end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
	if ended := value[int](t, conn, end); ended < defaultConns {
		t.Fatalf("%d connections ended", ended)
	}
	g := usualGrant()
	for range defaultConns { // reads find a connection, whichever they meet first
		if _, err := db.Grant(t.Context(), g.ID); sqlState(err) != "" || strings.Contains(err.Error(), "unavailable") {
			t.Fatal(err)
		}
	}
	created(t, db, defaultConns)
}
