package foreign

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// journals are the databases, SQLite in each way that it can keep a journal.
var journals = []struct{ dialect, journal string }{
	{foreigntest.SQLite, "delete"}, {foreigntest.SQLite, "wal"}, {foreigntest.MySQL, ""}, {foreigntest.Postgres, ""},
}

// TestSnapshot holds that a source is the database as it was at one moment while
// the other server goes on to rotate tokens, and that it can.
func TestSnapshot(t *testing.T) {
	const tokens = 3000
	for _, tt := range journals {
		t.Run(tt.dialect+tt.journal, func(t *testing.T) {
			t.Parallel()
			address, db := filled(t, tt.dialect, "bshaffer", 10, 4, tokens)
			if tt.journal != "" {
				run(t, db, "PRAGMA journal_mode = "+tt.journal)
			}
			s := opened(t, address, Options{})
			rotate(t, db, 0)
			var got []evergrant.ImportToken
			rotated := 0
			for token, err := range s.Tokens(context.Background()) {
				if err != nil {
					t.Fatal(err)
				}
				if len(got)%500 == 0 { // while rows are on their way
					rotated++
					rotate(t, db, rotated)
				}
				got = append(got, token)
			}
			checkTokens(t, "bshaffer", got, 10, 4, tokens)
			if clients := all(t, s.Clients(context.Background())); len(clients) != 4 {
				t.Errorf("%d clients, though one came later", len(clients))
			}
			later := opened(t, address, Options{})
			var texts []string
			for _, token := range all(t, later.Tokens(context.Background())) {
				texts = append(texts, token.Token.Reveal())
			}
			for i := range rotated + 1 {
				if slices.Contains(texts, foreigntest.Token(i*10)) || !slices.Contains(texts, fmt.Sprintf("rotated %d", i)) {
					t.Errorf("read again, rotation %d is not there", i)
				}
			}
		})
	}
}

// rotate does what a refresh at the other server does.
func rotate(t *testing.T, db *sql.DB, i int) {
	t.Helper()
	run(t, db,
		fmt.Sprintf("INSERT INTO oauth_refresh_tokens VALUES ('rotated %d', 'app-0', 'user0', '2037-01-01 00:00:00', NULL)", i),
		fmt.Sprintf("DELETE FROM oauth_refresh_tokens WHERE refresh_token = '%s'", foreigntest.Token(i*10)),
		fmt.Sprintf("INSERT INTO oauth_clients (client_id, redirect_uri) VALUES ('late %d', '')", i),
	)
}

// TestNothingIsWritten holds that a source cannot change its database.
func TestNothingIsWritten(t *testing.T) {
	t.Parallel()
	for _, tt := range journals {
		address, db := empty(t, tt.dialect, "bshaffer")
		if tt.journal != "" {
			run(t, db, "PRAGMA journal_mode = "+tt.journal)
		}
		s := opened(t, address, Options{})
		if _, err := s.conn.ExecContext(context.Background(), "INSERT INTO oauth_users (username) VALUES ('x')"); err == nil && tt.journal != "delete" {
			t.Errorf("%s: it was written to", tt.dialect)
		}
		var users int
		if err := db.QueryRow("SELECT count(*) FROM oauth_users").Scan(&users); err != nil || users != 0 {
			t.Errorf("%s: %d users, %v", tt.dialect, users, err)
		}
	}
}

// TestCopyLeavesNothing holds that the copy of a SQLite file is gone from the
// directory of temporary files while it is read, and that a write-ahead log makes
// none.
func TestCopyLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, journal := range []string{"delete", "wal", "truncate"} {
		address, db := filled(t, foreigntest.SQLite, "bshaffer", 10, 4, 5000)
		run(t, db, "PRAGMA journal_mode = "+journal)
		s := opened(t, address, Options{})
		if left, err := filepath.Glob(filepath.Join(dir, "evergrant*")); len(left) > 0 || err != nil {
			t.Errorf("%s: %q is left, %v", journal, left, err)
		}
		if tokens := all(t, s.Tokens(context.Background())); len(tokens) != 5000 {
			t.Errorf("%s: %d tokens", journal, len(tokens))
		}
		if left, err := filepath.Glob(strings.TrimPrefix(address, "sqlite:") + "-journal"); len(left) > 0 || err != nil {
			t.Errorf("%s: %q is left, %v", journal, left, err)
		}
	}
	// Where there is no place for a copy, the error says what it was for.
	address, _ := empty(t, foreigntest.SQLite, "bshaffer")
	t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
	if _, err := Open(context.Background(), address, Options{}); err == nil || !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a place for temporary files: %v", err)
	}
}

// TestConnectionLost holds that a sequence whose connection breaks off ends with
// an error that is not one of a row: nobody takes the rest for gone.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	for dialect, kill := range map[string]string{
		foreigntest.MySQL:    "KILL %d",
		foreigntest.Postgres: "SELECT pg_terminate_backend(%d)",
	} {
		address, db := filled(t, dialect, "bshaffer", 10, 4, 60_000)
		s := opened(t, address, Options{})
		own := map[string]string{foreigntest.MySQL: "SELECT connection_id()", foreigntest.Postgres: "SELECT pg_backend_pid()"}[dialect]
		var id int
		if err := s.conn.QueryRowContext(context.Background(), own).Scan(&id); err != nil {
			t.Fatal(err)
		}
		read := 0
		broken := func(yield func(evergrant.ImportToken, error) bool) {
			for token, err := range s.Tokens(context.Background()) {
				if read++; read == 100 {
					run(t, db, fmt.Sprintf(kill, id))
				}
				if !yield(token, err) {
					return
				}
			}
		}
		tokens, skipped, err := collect(broken)
		if err == nil || len(skipped) > 0 || len(tokens) >= 60_000 {
			t.Errorf("%s: %d tokens, %q, %v", dialect, len(tokens), skipped, err)
		}
		if _, _, _, err := s.Count(context.Background()); err == nil {
			t.Errorf("%s: a lost connection counts", dialect)
		}
	}
}
