package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/internal/mariatest"
	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
)

// importConfig is a server that knows the scopes of generated databases, and has a
// client for sign-ins and one that introspects everything.
const importConfig = `issuer:
  scopes: {read: "Read your data", write: "Change your data", profile: "See who you are"}
  clients:
    - {id: TestClient, secret: TestSecret, grant_types: [password, refresh_token]}
    - {id: resources, secret: ResourcesSecret, grant_types: [client_credentials], introspect: true}
`

// oldServer is the database of another server.
type oldServer struct {
	t                      *testing.T
	kind, dialect, address string
	users, clients, tokens int
}

// newOldServer makes the database of a kind of server.
func newOldServer(t *testing.T, kind, dialect string, users, clients, tokens int) *oldServer {
	t.Helper()
	o := &oldServer{t, kind, dialect, "", users, clients, tokens}
	switch dialect {
	case foreigntest.SQLite:
		o.address = "sqlite:" + filepath.Join(t.TempDir(), "old.db")
	case foreigntest.MySQL:
		o.address = mariatest.Database(t)
	case foreigntest.Postgres:
		o.address = pgtest.Database(t)
	}
	db, named, err := foreigntest.Connect(o.address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := foreigntest.Fill(db, named, kind, users, clients, tokens); err != nil {
		t.Fatal(err)
	}
	return o
}

// exec changes the database, as the other server does.
func (o *oldServer) exec(statement string) {
	o.t.Helper()
	db, _, err := foreigntest.Connect(o.address)
	if err == nil {
		defer db.Close()
		_, err = db.Exec(statement)
	}
	if err != nil {
		o.t.Fatalf("%s: %v", statement, err)
	}
}

// refreshTokens are the table and column of the refresh tokens of a kind.
func (o *oldServer) refreshTokens() (table, column string) {
	at := map[string][2]string{
		"bshaffer": {"oauth_refresh_tokens", "refresh_token"}, "fos": {"oauth2_refresh_token", "token"},
		"doorkeeper": {"oauth_access_tokens", "refresh_token"}, "django": {"oauth2_provider_refreshtoken", "token"},
	}[o.kind]
	return at[0], at[1]
}

// refresh does what a refresh does there: another token is in the place of the
// spent one.
func (o *oldServer) refresh(token, successor string) {
	o.t.Helper()
	table, column := o.refreshTokens()
	o.exec(fmt.Sprintf("UPDATE %s SET %s = '%s' WHERE %s = '%s'", table, column, successor, column, token))
}

// spend takes a token away.
func (o *oldServer) spend(token string) {
	o.t.Helper()
	table, column := o.refreshTokens()
	o.exec(fmt.Sprintf("DELETE FROM %s WHERE %s = '%s'", table, column, token))
}

// live counts the tokens that are there: the refresh tokens that have not expired,
// and the access tokens.
func (o *oldServer) live() (refresh, access int) {
	for i := range o.tokens {
		if !foreigntest.Expired(i) {
			refresh++
		}
		if foreigntest.AccessLive(i) {
			access++
		}
	}
	return refresh, access
}

// client is the id and the secret of the client of token i.
func (o *oldServer) client(i int) (id, secret string) {
	return foreigntest.ClientID(o.kind, i%o.clients), foreigntest.Secret(i % o.clients)
}

// user is the name of the user of token i.
func (o *oldServer) user(i int) string { return foreigntest.Username(i % o.users) }

// importFrom runs an import that must end well, and returns its report.
func (s *running) importFrom(o *oldServer, args ...string) importReport {
	s.t.Helper()
	return document[importReport](s.t, s.ok(append([]string{"import", o.address, "--json"}, args...)...))
}

// everything is all that administration shows of the server's database.
func (s *running) everything() string {
	s.t.Helper()
	var all strings.Builder
	for _, what := range []string{"client list", "user list", "grant list --limit 0", "event list --limit 0"} {
		all.WriteString(s.ok(append(strings.Fields(what), "--json")...))
	}
	return all.String()
}

func TestImportCommandLine(t *testing.T) {
	s := start(t, t.TempDir(), importConfig)
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		args  []string
		code  int
		wants []string // on stderr
	}{
		{"no source", nil, exitUsage, []string{"expected as arguments: evergrant import SOURCE"}},
		{"kind", []string{"sqlite:x", "--from", "hydra"}, exitUsage, []string{`--from "hydra" is not one of bshaffer, django, doorkeeper, fos`}},
		{"table", []string{"sqlite:x", "--table", "users"}, exitUsage, []string{`--table "users" is not ROLE=NAME`}},
		{"zone", []string{"sqlite:x", "--time-zone", "Europe/Nowhere"}, exitUsage, []string{`--time-zone "Europe/Nowhere" is not a time zone`}},
		{"iterations", []string{"sqlite:x", "--iterations", "0"}, exitUsage, []string{"--iterations must be above 0"}},
		{"variable", []string{"mysql://a:${NOT_SET}@h/d"}, exitUsage, []string{"takes the environment variable NOT_SET, which is not set"}},
		{"profile", []string{"sqlite:x", "--profile", "hydra"}, exitFailed, []string{`there is no profile "hydra"; write one of bshaffer, eventix, fos, standard`}},
		{"address", []string{"oracle://x"}, exitFailed, []string{"the source cannot be read: ", "sqlite:PATH"}},
		{"no file", []string{"sqlite:/nowhere/old.db"}, exitFailed, []string{"the source cannot be read: ", "no such file", "it goes on where it stopped"}},
		{"no tables", []string{"sqlite:" + empty}, exitFailed, []string{"the source cannot be read: "}},
		{"no database server", []string{"mysql://reader:hush-hush@127.0.0.1:1/app"}, exitFailed, []string{"the source cannot be read: ", "127.0.0.1:1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.run("", append([]string{"import"}, test.args...)...)
			for _, want := range test.wants {
				if r.code != test.code || !strings.Contains(r.stderr, want) || r.out != "" || strings.Contains(r.stderr, "hush-hush") {
					t.Errorf("status %d, stderr %q, stdout %q; want %d, %q", r.code, r.stderr, r.out, test.code, want)
				}
			}
		})
	}
	r := run(t, environment("EVERGRANT_TOKEN", "t"), "", "import", "sqlite:/nowhere/old.db", "--server", "http://127.0.0.1:1")
	if r.code != exitUnavailable || !strings.Contains(r.stderr, "cannot be reached") {
		t.Errorf("no server: status %d, %q", r.code, r.stderr)
	}
	r = run(t, environment("EVERGRANT_TOKEN", "wrong"), "", "import", "sqlite:/nowhere/old.db", "--server", s.url)
	if r.code != exitFailed || !strings.Contains(r.stderr, "needs the admin token") {
		t.Errorf("wrong token: status %d, %q", r.code, r.stderr)
	}
}

// TestImportGuide holds that the flags of the guide are there.
func TestImportGuide(t *testing.T) {
	in := &invocation{program: program{env: environment(), now: time.Now}}
	cmd, _, err := in.root().Find([]string{"import"})
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile("(`| )--([a-z-]+)").FindAllStringSubmatch(readDoc(t, "IMPORT.md"), -1)
	if len(flags) < 8 {
		t.Errorf("%d flags", len(flags))
	}
	for _, flag := range flags {
		if name := flag[2]; cmd.Flags().Lookup(name) == nil && name != "client" && name != "type" { // of other commands
			t.Errorf("there is no flag --%s", name)
		}
	}
}

func TestImportVariables(t *testing.T) {
	in := &invocation{program: program{env: environment("PASSWORD", "p@ss/w: %rd", "WHOLE", "mysql://u:p@h/d", "EMPTY", "")}}
	for address, want := range map[string]string{
		"mysql://u:${PASSWORD}@host/db":     "mysql://u:p%40ss%2Fw%3A%20%25rd@host/db",
		"mysql://${PASSWORD}:x@host/db":     "mysql://p%40ss%2Fw%3A%20%25rd:x@host/db",
		"${WHOLE}":                          "mysql://u:p@h/d",
		"postgres://h/db?password=${EMPTY}": "postgres://h/db?password=",
		"sqlite:/data/${PASSWORD}.db":       "sqlite:/data/p@ss/w: %rd.db",
		"sqlite:/$PASSWORD/${}/$${":         "sqlite:/$PASSWORD/${}/$${",
	} {
		if got, err := in.withVariables(address); err != nil || got != want {
			t.Errorf("%s becomes %s, %v; want %s", address, got, err, want)
		}
	}
}

func TestImportProfiles(t *testing.T) {
	for _, test := range []struct{ flag, kind, want string }{
		{"", "bshaffer", "bshaffer"}, {"", "fos", "fos"}, {"", "doorkeeper", "standard"}, {"", "django", "standard"}, {"eventix", "fos", "eventix"},
	} {
		if got := (importFlags{profile: test.flag}).profileOf(test.kind); got != test.want {
			t.Errorf("--profile %q, from %s: %s, want %s", test.flag, test.kind, got, test.want)
		}
	}
}

// TestImportReport counts what answers tell, and groups why.
func TestImportReport(t *testing.T) {
	r := newImportReport(false)
	answer := evergrant.ImportReport{
		Clients: evergrant.ImportCount{Created: 2, Updated: 1, Kept: []string{"a"}}, Users: evergrant.ImportCount{Unchanged: 3}, Tokens: evergrant.ImportCount{Created: 5},
		UnknownScopes: []string{"x", "y"},
	}
	for n := range 7 {
		answer.Skipped = append(answer.Skipped, evergrant.ImportSkip{Kind: "user", Name: fmt.Sprint(n), Reason: "no password"})
	}
	answer.Skipped = append(answer.Skipped, evergrant.ImportSkip{Kind: "client", Name: "a", Reason: "without a name", Part: true},
		evergrant.ImportSkip{Kind: "token", Name: "t", Reason: issuer.ImportExpired}, evergrant.ImportSkip{Kind: "token", Name: "t", Reason: "odd"})
	for range 2 {
		r.add(answer)
	}
	if r.Clients != (importCount{Created: 4, Updated: 2, Kept: 2}) || r.Users != (importCount{Unchanged: 6, Skipped: 14}) || r.Tokens != (importCount{Created: 10, Expired: 2, Skipped: 2}) {
		t.Errorf("counts %+v %+v %+v", r.Clients, r.Users, r.Tokens)
	}
	if !slices.Equal(r.UnknownScopes, []string{"x", "y"}) || len(r.Notes) != 4 {
		t.Errorf("report %+v", r)
	}
	for _, n := range r.Notes {
		if n.Kind == "user" && (n.Count != 14 || !slices.Equal(n.Names, []string{"0", "1", "2", "3", "4"})) || n.Kind == "client" && n.Count != 2 {
			t.Errorf("note %+v", n)
		}
	}
	for n := range 3 * importReasons {
		r.skip(evergrant.ImportSkip{Kind: "token", Name: fmt.Sprint(n), Reason: fmt.Sprint("reason ", n)})
		r.add(evergrant.ImportReport{UnknownScopes: []string{fmt.Sprint("scope ", n)}})
	}
	if len(r.Notes) != importReasons+1 || r.Notes[importReasons].Reason != "other reasons" || len(r.UnknownScopes) != importReasons {
		t.Errorf("%d notes, %d scopes", len(r.Notes), len(r.UnknownScopes))
	}
}

// TestImportParts asks about ranges of ids that cover all, one after the other.
func TestImportParts(t *testing.T) {
	im := &importing{live: map[string][]grantID{}, report: importReport{Source: "s"}}
	for n := range 2500 {
		im.live["a"] = append(im.live["a"], grantID{byte(n >> 8), byte(n)})
	}
	im.live["b"] = im.live["a"][:1000]
	for client, want := range map[string][]int{"a": {1000, 1000, 500}, "b": {1000}, "none": {0}} {
		var sizes []int
		until := ""
		for part := range im.parts(client) {
			if part.After != until || !part.DryRun || part.Source != "s" || part.ClientID != client || !slices.IsSorted(part.Live) || part.Until != "" && part.Until != part.Live[len(part.Live)-1] {
				t.Errorf("%s: part from %s to %s of %d", client, part.After, part.Until, len(part.Live))
			}
			until, sizes = part.Until, append(sizes, len(part.Live))
		}
		if until != "" || !slices.Equal(sizes, want) {
			t.Errorf("%s: %v, up to %q", client, sizes, until)
		}
	}
}

// TestImportRetry has calls that fail, for a while and for good.
func TestImportRetry(t *testing.T) {
	passes := fmt.Errorf("%w: refused", evergrant.ErrUnreachable)
	busy := &evergrant.Problem{Title: "Service Unavailable", Status: http.StatusServiceUnavailable}
	bad := &evergrant.Problem{Title: "Bad Request", Status: http.StatusBadRequest}
	for _, test := range []struct {
		name  string
		errs  []error // of the calls
		step  time.Duration
		calls int
		code  int
	}{
		{name: "at once", errs: []error{nil}, calls: 1},
		{name: "after a while", errs: []error{passes, busy, nil}, calls: 3},
		{name: "refused", errs: []error{bad}, calls: 1, code: exitFailed},
		{name: "refused in the end", errs: []error{passes, bad}, calls: 2, code: exitFailed},
		{name: "for good", errs: []error{passes, passes, passes, passes, passes}, step: 12 * time.Second, calls: 3, code: exitUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			now, calls := time.Unix(0, 0), 0
			im := &importing{in: &invocation{program: program{now: func() time.Time {
				now = now.Add(test.step)
				return now
			}}}, patience: importPatience}
			err := im.retry(t.Context(), func() error {
				calls++
				return test.errs[calls-1]
			})
			if calls != test.calls || (err == nil) != (test.code == 0) {
				t.Errorf("%d calls, %v", calls, err)
			}
			if err != nil && failureOf(err).code != test.code {
				t.Errorf("%+v", failureOf(err))
			}
			if test.code == exitUnavailable && !strings.Contains(failureOf(err).next, "run it again: it goes on where it stopped") {
				t.Errorf("next: %s", failureOf(err).next)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	im := &importing{in: &invocation{program: program{now: time.Now}}, patience: importPatience}
	err := im.retry(ctx, func() error {
		cancel()
		return passes
	})
	if f, ok := errors.AsType[*failure](err); !ok || f.what != "interrupted" {
		t.Errorf("interrupted: %v", err)
	}
}

// TestImportFlights: no more than two batches are on their way, and the first error
// ends all.
func TestImportFlights(t *testing.T) {
	f := newFlights(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	for range importFlights {
		f.start(func(context.Context) error {
			entered <- struct{}{}
			<-leave
			return nil
		})
		<-entered
	}
	third := make(chan struct{})
	go func() {
		f.start(func(context.Context) error { return errors.New("broken") })
		close(third)
	}()
	select {
	case <-third:
		t.Error("a third one is on its way")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	<-third
	if err := f.wait(); err == nil || err.Error() != "broken" {
		t.Errorf("the error is %v", err)
	}
	f.start(func(context.Context) error {
		t.Error("one more was started")
		return nil
	})
}

// TestImportLongRow leaves out a row that no batch could hold, and the import ends
// well.
func TestImportLongRow(t *testing.T) {
	o := newOldServer(t, "bshaffer", foreigntest.SQLite, 5, 2, 10)
	o.exec("UPDATE oauth_refresh_tokens SET scope = '" + strings.Repeat("x", importRow) + "' WHERE refresh_token = '" + foreigntest.Token(3) + "'")
	o.exec("UPDATE oauth_refresh_tokens SET scope = '" + strings.Repeat("y", importBytes) + "' WHERE refresh_token = '" + foreigntest.Token(2) + "'")
	s := start(t, t.TempDir(), importConfig)
	report := s.importFrom(o)
	refresh, access := o.live()
	if report.Tokens.Created != refresh+access-1 || report.Tokens.Skipped != 1 {
		t.Errorf("report %+v", report)
	}
}

// TestImportOtherAnswers has something at the server's address that is no server of
// ours.
func TestImportOtherAnswers(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	r := run(t, environment("EVERGRANT_TOKEN", "t"), "", "import", "sqlite:/nowhere/old.db", "--server", other.URL)
	if r.code != exitFailed || !strings.Contains(r.stderr, "not as an Evergrant server does") {
		t.Errorf("status %d, %q", r.code, r.stderr)
	}
}
