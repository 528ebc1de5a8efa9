package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDatabaseOfTheConfiguration has what is read of database, and that what may
// be the password is shown nowhere.
func TestDatabaseOfTheConfiguration(t *testing.T) {
	const mend = `; write for example "postgres://`
	env := environment("URL", "postgres://ann:hush@db/grants?sslmode=require", "WORD", "hush", "BROKEN", "postgres://ann:hu/sh@db/grants")
	for _, test := range []struct{ name, value, want, wrong string }{
		{"URL", "postgres://ann:hush@db.example.com:5433/grants?sslmode=verify-full", "grants at db.example.com:5433", ""},
		{"long scheme", "postgresql://ann@db/grants?sslmode=require", "grants at db:5432", ""},
		{"keywords", "host=db user=ann password=hush dbname=grants sslmode=require", "grants at db:5432", ""},
		{"hosts", "postgres://ann@a,b/grants?sslmode=require&target_session_attrs=read-write", "grants at a:5432, b:5432", ""},
		{"variable", "${URL}", "grants at db:5432", ""},
		{"variable in it", "postgres://ann:${WORD}@db/grants?sslmode=require", "grants at db:5432", ""},
		{"none", "", "", ""},
		{"other scheme", "mysql://ann:hush@db/grants", "", "database is neither a URL that begins with postgres:// nor a connection string of PostgreSQL" + mend},
		{"SQLite", "sqlite:hush.db", "", "database is neither a URL that begins with postgres:// nor a connection string of PostgreSQL" + mend},
		{"other scheme in capitals", "POSTGRES://ann:hush@db/grants", "", "database is neither a URL that"},
		{"word", "hush", "", "database is neither a URL that"},
		{"port", "postgres://ann:hush@db:99999999/grants", "", "the connection string of the database is not understood: look at its port" + mend},
		{"slash in the password", "postgres://ann:hu/sh@db/grants", "", "the connection string of the database is not understood: look at its port" + mend},
		{"variable that is broken", "${BROKEN}", "", "the connection string of the database is not understood: look at its port" + mend},
		{"variable that is not set", "${NONE}", "", "database takes the environment variable NONE, which is not set"},
		{"line break", "postgres://ann@db/grants\\n", "", "database contains a line break"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, "listen: 127.0.0.1:8080\ndatabase: \""+test.value+"\"\n")
			r := run(t, env, "", "config", "check", "--config", path)
			asJSON := run(t, env, "", "config", "check", "--config", path, "--json")
			shown := r.out + r.stderr + asJSON.out + asJSON.stderr
			if strings.Contains(shown, "hu") {
				t.Errorf("the password is shown: %s", shown)
			}
			if test.wrong != "" {
				if want := path + ":2: " + test.wrong; r.code != exitFailed || !strings.HasPrefix(r.stderr, want) || strings.Count(r.stderr, "\n") != 2 {
					t.Errorf("status %d, %q, want %q", r.code, r.stderr, want)
				}
				return
			}
			line := regexp.MustCompile(`(?m)^  database +(.*)$`).FindStringSubmatch(r.out)
			if want := orText(test.want, "evergrant-data/evergrant.db"); r.code != exitDone || line == nil || line[1] != want {
				t.Errorf("status %d, %q, %q; want %q", r.code, r.stderr, r.out, want)
			}
			settings := document[struct{ Settings map[string]any }](t, asJSON.out).Settings
			if database, there := settings["database"]; there != (test.want != "") || there && database != test.want {
				t.Errorf("settings have %v", database)
			}
		})
	}
}

// TestDatabaseWarnings has what is told of a connection string that works.
func TestDatabaseWarnings(t *testing.T) {
	const clear, readable = "may cross the network in clear; add sslmode=verify-full", "everybody on this machine can read the file, which contains a secret"
	env := environment("WORD", "hush")
	c, _ := load(t, "database: postgres://localhost/grants", overrides{}, environment())
	if len(c.warnings) != 1 || !strings.HasPrefix(c.warnings[0].Text, "servers on one database need the same public_url") {
		t.Errorf("without public_url: %v", c.warnings)
	}
	for _, test := range []struct{ name, value, want string }{
		{"plain", "postgres://ann@db/grants?sslmode=disable", clear},
		{"where it is offered", "postgres://ann@db/grants", clear},
		{"one of two", "postgres://ann@127.0.0.1,db/grants?sslmode=disable", clear},
		{"with TLS", "postgres://ann@db/grants?sslmode=require", ""},
		{"loopback", "postgres://ann@localhost/grants?sslmode=disable", ""},
		{"socket", "host=/run/postgresql user=ann dbname=grants", ""},
		{"password in the file", "postgres://ann:hush@localhost/grants", readable},
		{"password as a parameter", "postgres://localhost/grants?user=ann&password=hush", readable},
		{"password as a keyword", "host=localhost user=ann password=hush", readable},
		{"password in a variable", "postgres://ann:${WORD}@localhost/grants", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, "public_url: http://127.0.0.1:8080\ndatabase: \""+test.value+"\"")
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			r := run(t, env, "", "config", "check", "--config", path)
			if r.code != exitDone || !strings.Contains(r.stderr, test.want) || test.want == "" && r.stderr != "" || strings.Contains(r.stderr+r.out, "hush") {
				t.Errorf("status %d, %q, want %q", r.code, r.stderr, test.want)
			}
		})
	}
}

// TestDatabasePrints holds that a configuration shows no password however it is
// printed.
func TestDatabasePrints(t *testing.T) {
	c, wrong := load(t, "database: postgres://ann:hush@localhost/grants", overrides{}, environment())
	if len(wrong) > 0 || c.Database.url.Reveal() == "" {
		t.Fatal(wrong)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, c.Database) + fmt.Sprintf(verb, *c); strings.Contains(text, "hush") {
			t.Errorf("%s shows the password", verb)
		}
	}
}

// TestDump has the command that makes a backup.
func TestDump(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"postgres://ann:hush@db:5433/grants", "pg_dump --format=custom --file=FILE --host=db --port=5433 --username=ann --dbname=grants"},
		{"postgres://ann@a,b:1/grants", "pg_dump --format=custom --file=FILE --host=a,b --port=5432,1 --username=ann --dbname=grants"},
		{"host=/run/pg user=ox dbname='my db' port=5", `pg_dump --format=custom --file=FILE --host=/run/pg --port=5 --username=ox '--dbname=my db'`},
		{`host=h user=o\'x dbname=$(d) port=5`, `pg_dump --format=custom --file=FILE --host=h --port=5 '--username=o'\''x' '--dbname=$(d)'`},
	} {
		c, wrong := load(t, "database: |-\n  "+test.url, overrides{}, environment())
		if len(wrong) > 0 {
			t.Errorf("%s: %v", test.url, wrong)
			continue
		}
		if got := c.Database.dump("FILE"); got != test.want {
			t.Errorf("%s gives %s", test.url, got)
		}
	}
}
