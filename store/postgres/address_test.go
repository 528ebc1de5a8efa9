package postgres

import (
	"slices"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for name, value := range map[string]string{"PGHOST": "", "PGPORT": "", "PGUSER": "", "PGDATABASE": "", "PGPASSWORD": "hush-env", "PGSSLMODE": "", "PGSERVICE": ""} {
		t.Setenv(name, value)
	}
	for _, test := range []struct {
		name, url, want, user string
		hosts, ports          []string
		encrypted             bool
	}{
		{"URL", "postgres://ann:hush@db.example.com:5433/grants?sslmode=verify-full", "grants at db.example.com:5433", "ann", []string{"db.example.com"}, []string{"5433"}, true},
		{"long scheme", "postgresql://ann@db/grants?sslmode=disable", "grants at db:5432", "ann", []string{"db"}, []string{"5432"}, false},
		{"TLS where it is offered", "postgres://ann@db/grants", "grants at db:5432", "ann", []string{"db"}, []string{"5432"}, false},
		{"hosts", "postgres://ann@a:1,b:2/grants?target_session_attrs=read-write&sslmode=require", "grants at a:1, b:2", "ann", []string{"a", "b"}, []string{"1", "2"}, true},
		{"keywords", "host=db port=5433 user=ann password='hu sh' dbname=grants sslmode=disable", "grants at db:5433", "ann", []string{"db"}, []string{"5433"}, false},
		{"socket", "host=/var/run/pg user=ann dbname=grants", "grants at /var/run/pg:5432", "ann", []string{"/var/run/pg"}, []string{"5432"}, true},
		{"IPv6", "postgres://ann@[::1]/grants?sslmode=disable", "grants at [::1]:5432", "ann", []string{"::1"}, []string{"5432"}, false},
		{"no database", "host=db user=ann sslmode=disable", "ann at db:5432", "ann", []string{"db"}, []string{"5432"}, false},
		{"pool", "postgres://ann@db/grants?pool_max_conns=30&sslmode=disable", "grants at db:5432", "ann", []string{"db"}, []string{"5432"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := ParseAddress(test.url)
			if err != nil {
				t.Fatal(err)
			}
			if a.String() != test.want || a.User != test.user || !slices.Equal(a.Hosts, test.hosts) || !slices.Equal(a.Ports, test.ports) || a.Encrypted != test.encrypted {
				t.Errorf("%+v is %q", a, a)
			}
		})
	}
	for _, test := range []struct{ name, url, want string }{
		{"port", "postgres://ann:hush@db:port/grants", ""},
		{"port out of range", "postgres://ann:hush@db:99999999/grants", ": look at its port"},
		{"slash in the password", "postgres://ann:hu/sh@db/grants", ""},
		{"no host after the password", "postgres://ann:hush/grants", ""},
		{"password as a parameter", "postgres://db:port/grants?password=hush", ""},
		{"keyword without value", "host=db password=hush sslmode", ""},
		{"sslmode", "host=db password = 'hush' sslmode=hush", ": look at its sslmode"},
		{"attributes", "postgres://ann:hush@db/grants?target_session_attrs=hush", ": look at its target_session_attrs"},
		{"connections", "postgres://ann:hush@db/grants?pool_max_conns=hush", ": look at its pool_max_conns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseAddress(test.url)
			if err == nil || !strings.HasPrefix(err.Error(), "the connection string of the database is not understood") || strings.Contains(err.Error(), "hu") {
				t.Fatalf("error %v", err)
			}
			if !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error %v, want it to end in %q", err, test.want)
			}
		})
	}
}

// FuzzParseAddress looks for a password in what is told of a connection string.
func FuzzParseAddress(f *testing.F) {
	const password = "Xq7"
	for _, seed := range []string{"postgres://ann:Xq7@db/x", "host=db password=Xq7", "postgres://ann:Xq7/x@db:1,c:2/d?sslmode=q", "password = 'Xq7", "postgres://h/d?password=Xq7&sslmode=z", "postgres://:Xq7@[::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		a, err := ParseAddress(url)
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%q is told in %v", url, err)
		}
		if err == nil && (len(a.Hosts) == 0 || len(a.Hosts) != len(a.Ports)) {
			t.Errorf("%q is %+v", url, a)
		}
	})
}
