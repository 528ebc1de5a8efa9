package foreign

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
)

// TestFindErrors holds what is said of a database whose tables are not those of
// one server.
func TestFindErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kinds   []string // whose tables there are
		prepare []string
		options Options
		says    []string
	}{
		{name: "nothing", says: []string{"no tables were found"}},
		{name: "something else", prepare: []string{"CREATE TABLE posts (id INT)", "CREATE VIEW newest AS SELECT * FROM posts"},
			says: []string{"any of bshaffer, django, doorkeeper, fos", "these tables were found: newest, posts; name them with --table role=name", "--from"}},
		{name: "two servers", kinds: []string{"bshaffer", "fos"}, says: []string{"the tables of bshaffer and fos: say with --from"}},
		{name: "another server", kinds: []string{"bshaffer"}, options: Options{Kind: "fos"},
			says: []string{"not all tables of fos: none has the role client, with the columns id, random_id, redirect_uris", "oauth_clients", "--table role=name"}},
		{name: "an unknown server", kinds: []string{"bshaffer"}, options: Options{Kind: "hydra"}, says: []string{"there is no kind hydra: it must be one of bshaffer, django, doorkeeper, fos"}},
		{name: "an unknown role", kinds: []string{"bshaffer"}, options: Options{Tables: map[string]string{"clients": "x"}},
			says: []string{"no table has the role clients: it must be one of access_token, client, refresh_token, scope, user"}},
		{name: "a renamed table", kinds: []string{"bshaffer"}, prepare: []string{"ALTER TABLE oauth_clients RENAME TO apps"}, options: Options{Kind: "bshaffer"},
			says: []string{"none has the role client, with the columns client_id, client_secret, redirect_uri", "these tables were found: apps, oauth_access_tokens"}},
		{name: "a name that is not there", kinds: []string{"bshaffer"}, options: Options{Kind: "bshaffer", Tables: map[string]string{"client": "apps"}},
			says: []string{`there is no table "apps" for the role client`, "oauth_clients"}},
		{name: "a table of something else", kinds: []string{"bshaffer"}, options: Options{Kind: "bshaffer", Tables: map[string]string{"client": "oauth_users"}},
			says: []string{"the table oauth_users cannot have the role client: it has no column client_id"}},
		{name: "no clients", kinds: []string{"bshaffer"}, options: Options{Kind: "bshaffer", Tables: map[string]string{"client": ""}}, says: []string{`there is no table "" for the role client`}},
		{name: "two tables of users", kinds: []string{"fos"}, options: Options{Kind: "fos"},
			prepare: []string{"ALTER TABLE fos_user RENAME TO members", "CREATE TABLE admins (id INT, password TEXT, email TEXT)"},
			says:    []string{"admins and members may have the role user: say which with --table user=name"}},
		{name: "no user columns", kinds: []string{"fos"}, options: Options{Kind: "fos", Tables: map[string]string{"user": "oauth2_client"}},
			says: []string{"the table oauth2_client cannot have the role user: it has no column password"}},
		{name: "no name of a user", kinds: []string{"fos"}, prepare: []string{"CREATE TABLE admins (id INT, password TEXT)"}, options: Options{Kind: "fos", Tables: map[string]string{"user": "admins"}},
			says: []string{"it has no column username or email"}},
	} {
		address, db := database(t, foreigntest.SQLite)
		for _, kind := range tt.kinds {
			run(t, db, foreigntest.Schema(foreigntest.SQLite, kind)...)
		}
		if len(tt.kinds) == 0 {
			run(t, db, "PRAGMA user_version = 1") // so that there is a file
		}
		run(t, db, tt.prepare...)
		s, err := Open(context.Background(), address, tt.options)
		if s != nil || err == nil {
			t.Errorf("%s: %v, %v", tt.name, s, err)
			continue
		}
		for _, part := range append(tt.says, "other%20server.db: ") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v; want %q", tt.name, err, part)
			}
		}
	}
}

// TestManyTables holds that a list of tables has an end.
func TestManyTables(t *testing.T) {
	tables := map[string]*table{}
	for i := range 300 {
		tables[fmt.Sprintf("t%03d", i)] = nil
	}
	got := listed(tables)
	if !strings.Contains(got, "t059 and 240 more; name them") || strings.Contains(got, "t060") {
		t.Errorf("got %s", got)
	}
}

// TestRenamedTables reads tables that an application has named itself, on each
// database, with columns of other types and names and a reserved word.
func TestRenamedTables(t *testing.T) {
	t.Parallel()
	for _, dialect := range dialects {
		address, db := filled(t, dialect, "fos", 24, 8, 100)
		quote := map[string]string{foreigntest.MySQL: "`"}[dialect]
		if quote == "" {
			quote = `"`
		}
		run(t, db,
			"ALTER TABLE oauth2_client RENAME TO "+quote+"Api Clients"+quote,
			"ALTER TABLE oauth2_access_token RENAME TO api__access_token",
			"ALTER TABLE oauth2_refresh_token RENAME TO RefreshToken",
			"ALTER TABLE fos_user RENAME TO "+quote+"user"+quote,
			"ALTER TABLE RefreshToken RENAME COLUMN client_id TO oauth2_client_id",
		)
		s := opened(t, address, Options{})
		if s.Kind() != "fos" {
			t.Errorf("%s: kind %s", dialect, s.Kind())
		}
		checkClients(t, "fos", all(t, s.Clients(context.Background())), 8)
		checkTokens(t, "fos", all(t, s.Tokens(context.Background())), 24, 8, 100)
	}
	address, db := filled(t, foreigntest.SQLite, "bshaffer", 24, 8, 100)
	run(t, db, "ALTER TABLE oauth_clients RENAME TO apps", "ALTER TABLE oauth_refresh_tokens RENAME TO again", "ALTER TABLE oauth_users RENAME TO people")
	s := opened(t, address, Options{Tables: map[string]string{"client": "apps", "refresh_token": "again", "user": "people"}})
	checkClients(t, "bshaffer", all(t, s.Clients(context.Background())), 8)
	checkTokens(t, "bshaffer", all(t, s.Tokens(context.Background())), 24, 8, 100)
	if users := all(t, s.Users(context.Background())); len(users) != 24 {
		t.Errorf("%d users", len(users))
	}
}

// TestTablesLeftOut holds that a role with no table is not read, and that tokens
// then have the number of their user.
func TestTablesLeftOut(t *testing.T) {
	t.Parallel()
	for kind, subject := range map[string]string{"bshaffer": "user0", "fos": "1", "doorkeeper": "1", "django": "1"} {
		address, _ := filled(t, foreigntest.SQLite, kind, 10, 4, 20)
		s := opened(t, address, Options{Tables: map[string]string{"user": ""}})
		if users := all(t, s.Users(context.Background())); len(users) != 0 {
			t.Errorf("%s: %d users", kind, len(users))
		}
		for _, token := range all(t, s.Tokens(context.Background())) {
			if token.Token.Reveal() == foreigntest.Token(0) && token.Subject != subject {
				t.Errorf("%s: the subject is %q", kind, token.Subject)
			}
		}
		s = opened(t, address, Options{Kind: kind, Tables: map[string]string{"access_token": "", "refresh_token": ""}})
		if tokens := all(t, s.Tokens(context.Background())); len(tokens) != 0 || s.Expired() != 0 {
			t.Errorf("%s: %d tokens", kind, len(tokens))
		}
		if clients, users, tokens, err := s.Count(context.Background()); err != nil || clients != 4 || users != 10 || tokens != 0 {
			t.Errorf("%s: count %d %d %d, %v", kind, clients, users, tokens, err)
		}
	}
}

// TestKeysOfOtherTypes holds that tokens find their user where the two columns are
// not of one type, which PostgreSQL does not compare by itself.
func TestKeysOfOtherTypes(t *testing.T) {
	t.Parallel()
	for dialect, statements := range map[string][]string{
		foreigntest.Postgres: {"ALTER TABLE oauth_access_tokens ALTER COLUMN resource_owner_id TYPE VARCHAR(255)", "ALTER TABLE users ALTER COLUMN id TYPE SMALLINT"},
		foreigntest.MySQL:    {"ALTER TABLE oauth_access_tokens MODIFY resource_owner_id VARCHAR(255)"},
	} {
		address, db := filled(t, dialect, "doorkeeper", 24, 8, 100)
		run(t, db, statements...)
		s := opened(t, address, Options{})
		checkTokens(t, "doorkeeper", all(t, s.Tokens(context.Background())), 24, 8, 100)
	}
}
