package foreign

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/internal/mariatest"
	"github.com/evergrant/evergrant/internal/pgtest"
)

// TestNames holds which name a source has, whatever else its address says.
func TestNames(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"sqlite:/var/lib/app.db":                     "sqlite:/var/lib/app.db",
		"sqlite:///var/lib/app.db":                   "sqlite:/var/lib/app.db",
		"sqlite:/var/./lib/../lib/app.db":            "sqlite:/var/lib/app.db",
		"sqlite:app.db":                              "sqlite:" + (&url.URL{Path: here}).EscapedPath() + "/app.db",
		"sqlite:/var/my app?/jürg.db":                "sqlite:/var/my%20app%3F/j%C3%BCrg.db",
		"mysql://u:hunter2@db.example/app":           "mysql://db.example:3306/app",
		"mariadb://other@DB.example:3306/app?tls=1":  "mysql://db.example:3306/app",
		"mysql://u@[::1]:3307/app":                   "mysql://%5B::1%5D:3307/app",
		"mysql://u@localhost/app?socket=/run/my.s":   "mysql://%2Frun%2Fmy.s/app",
		"mysql://u@h/my%20app":                       "mysql://h:3306/my%20app",
		"postgres://u:hunter2@db.example/app":        "postgres://db.example:5432/app",
		"postgresql://db.example:5432/app?user=u":    "postgres://db.example:5432/app",
		"postgres://u@/app?host=/run/pg":             "postgres://%2Frun%2Fpg/app",
		"sqlite:/" + strings.Repeat("x", 300) + "/y": "..." + strings.Repeat("x", 235) + "/y",
	} {
		p, err := parseAddress(address)
		if err != nil || p.name != want || len(p.name) > longest {
			t.Errorf("%s: %v, %v, want %s", address, p, err, want)
		}
	}
}

// TestAddressErrors holds that each says what to do, and shows no password.
func TestAddressErrors(t *testing.T) {
	for address, says := range map[string]string{
		"":                                          "must be sqlite:PATH, mysql://",
		"/var/lib/app.db":                           "must be sqlite:PATH, mysql://",
		"mysqli://u:hunter2@h/db":                   "must be sqlite:PATH, mysql://",
		"sqlite:":                                   "must be sqlite:PATH",
		"sqlite://":                                 "must be sqlite:PATH",
		"mysql:h/db":                                "is not a URL",
		"mysql://u:hunter2%zz@h/db":                 "is not a URL",
		"mysql://u:hunter2@h:port/db":               "is not a URL",
		"postgres://u:hunter2 @h/db\x7f":            "is not a URL",
		"mysql://u:hunter2@h":                       "names no database",
		"mysql://u:hunter2@h/":                      "names no database",
		"mysql://u:hunter2@h/db?timeout=hunter2":    "address of the database",
		"mysql://u:hunter2@h/db?tls=hunter2":        "address of the database",
		"postgres://u:hunter2@h/db?sslmode=hunter2": "sslmode",
		"postgres://u:hunter2@h/db?connect_timeout=hunter2":  "address of the database",
		"postgres://h/db?password=hunter2&sslmode=hunter2":   "sslmode",
		"postgres://u:hunter2@h/db?sslrootcert=/no/hunter2x": "address of the database",
	} {
		s, err := Open(context.Background(), address, Options{})
		if s != nil || err == nil || !strings.Contains(err.Error(), says) || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestWrongPasswords holds what is said to one who may not connect.
func TestWrongPasswords(t *testing.T) {
	t.Parallel()
	maria, err := url.Parse(mariatest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	maria.User = url.UserPassword("evergrant", "hunter2")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for address, says := range map[string]string{
		maria.String(): "Access denied for user 'evergrant'",
		strings.Replace(pgtest.Database(t), "evergrant@", "nobody:hunter2@", 1): `role "nobody" does not exist`,
		"mysql://u:hunter2@" + closed.Addr().String() + "/db":                   "connection refused",
		"postgres://u:hunter2@" + closed.Addr().String() + "/db":                "connection refused",
		"sqlite:" + filepath.Join(t.TempDir(), "missing.db"):                    "no such file",
	} {
		s, err := Open(context.Background(), address, Options{})
		if s != nil || err == nil || !strings.Contains(err.Error(), says) || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestHide holds that a password is taken out of an error that has it.
func TestHide(t *testing.T) {
	p, err := parseAddress("mysql://u:hunter%202@h/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{"hunter 2", "hunter+2", "hunter%202"} {
		err := p.hide(fmt.Errorf("dial %s: %w", shown, context.Canceled))
		if err.Error() != "dial [redacted]: context canceled" || !errors.Is(err, context.Canceled) || fmt.Sprintf("%+v", errors.Unwrap(err)) != "<nil>" {
			t.Errorf("%v", err)
		}
	}
	if err := errors.New("plain"); p.hide(err) != err {
		t.Error("an error without the password is changed")
	}
}

// TestNotADatabase holds what is said of a file that is something else.
func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is text\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), "sqlite:"+path, Options{}); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("got %v", err)
	}
}

// TestAddressOptions holds that a socket and parameters of the drivers are used.
func TestAddressOptions(t *testing.T) {
	address, db := empty(t, foreigntest.MySQL, "bshaffer")
	var socket string
	if err := db.QueryRow("SELECT @@socket").Scan(&socket); err != nil {
		t.Fatal(err)
	}
	name := address[strings.LastIndexByte(address, '/')+1:]
	run(t, db, "CREATE USER IF NOT EXISTS reader@localhost", "GRANT SELECT ON "+name+".* TO reader@localhost")
	t.Cleanup(func() { run(t, db, "DROP USER reader@localhost") })
	s := opened(t, "mysql://reader@localhost/"+name+"?socket="+url.QueryEscape(socket)+"&timeout=5s", Options{})
	if want := "bshaffer mysql://" + url.PathEscape(socket) + "/" + name; s.Name() != want || s.String() != want {
		t.Errorf("name %s, want %s", s.Name(), want)
	}
	all(t, s.Clients(context.Background()))
}

// TestSearchPath holds that PostgreSQL's schemas are those of the search path.
func TestSearchPath(t *testing.T) {
	t.Parallel()
	address, db := database(t, foreigntest.Postgres)
	run(t, db, "CREATE SCHEMA other")
	for _, statement := range foreigntest.Schema(foreigntest.Postgres, "bshaffer") {
		run(t, db, strings.Replace(statement, "CREATE TABLE ", "CREATE TABLE other.", 1))
	}
	if _, err := Open(context.Background(), address, Options{}); err == nil || !strings.Contains(err.Error(), "no tables were found") {
		t.Errorf("outside of the search path: %v", err)
	}
	opened(t, address+"&search_path=other", Options{})
}

// TestCancelled holds that a sequence ends with the context's error, and that
// the source can be closed then.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, dialect := range dialects {
		address, _ := filled(t, dialect, "bshaffer", 10, 4, 20_000)
		s, err := Open(context.Background(), address, Options{Now: func() time.Time { return today }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		read, last := 0, error(nil)
		for _, err := range s.Tokens(ctx) {
			read, last = read+1, err
			if read == 10 {
				cancel()
			}
		}
		if last == nil || read > 19_000 {
			t.Errorf("%s: %d tokens, the last with %v", dialect, read, last)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", dialect, err)
		}
		cancel()
	}
}
