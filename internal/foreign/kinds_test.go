package foreign

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/secret"
)

// TestLocalTimes holds that bshaffer's times are meant in the zone of the server
// that wrote them, on each database, and that its never is never in any.
func TestLocalTimes(t *testing.T) {
	t.Parallel()
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for _, dialect := range dialects {
		address, db := empty(t, dialect, "bshaffer")
		// It is 03:08:09 of the day in New York.
		run(t, db, `INSERT INTO oauth_refresh_tokens VALUES
			('future', 'a', 'u', '2026-05-06 03:08:10', NULL), ('past', 'a', 'u', '2026-05-06 03:08:09', NULL), ('winter', 'a', 'u', '2027-01-06 00:00:00', NULL),
			('yesterday', 'a', 'u', '2026-05-05 00:00:00', NULL), ('never', 'a', 'u', '1970-01-01 05:00:00', NULL), ('tomorrow', 'a', 'u', '2026-05-07 00:00:00', NULL)`)
		s := opened(t, address, Options{Location: newYork})
		want := map[string]string{"future": "2026-05-06T07:08:10Z", "winter": "2027-01-06T05:00:00Z", "never": "never", "tomorrow": "2026-05-07T04:00:00Z"}
		got := all(t, s.Tokens(context.Background()))
		for _, token := range got {
			if line := tokenLine(token); line != fmt.Sprintf("%s a u [] %s", token.Token.Reveal(), want[token.Token.Reveal()]) {
				t.Errorf("%s: %s", dialect, line)
			}
		}
		if len(got) != len(want) || s.Expired() != 2 {
			t.Errorf("%s: %d tokens, %d expired", dialect, len(got), s.Expired())
		}
		if all(t, opened(t, address, Options{}).Tokens(context.Background())); s.Expired() != 2 {
			t.Errorf("%s: in UTC %d expired", dialect, s.Expired())
		}
	}
}

// TestBshafferWithoutScopes holds that a client without a list may ask for what
// this server knows, where the other one's list is not there.
func TestBshafferWithoutScopes(t *testing.T) {
	t.Parallel()
	address, db := filled(t, foreigntest.SQLite, "bshaffer", 1, 2, 0)
	run(t, db, "DROP TABLE oauth_scopes")
	for _, c := range all(t, opened(t, address, Options{}).Clients(context.Background())) {
		if want := map[string]string{"app-1": "read write profile"}[c.ID]; c.Scope != want {
			t.Errorf("%s has the scope %q", c.ID, c.Scope)
		}
	}
}

// TestIterations holds that those of Symfony's digest can be told.
func TestIterations(t *testing.T) {
	t.Parallel()
	address, db := empty(t, foreigntest.SQLite, "fos")
	run(t, db, "INSERT INTO fos_user VALUES (1, 'u', 'u', 'u@x', 'u@x', TRUE, 'NaCl', 'uUk+psHygJQXOn7AaFRRM+ZHC64=', NULL, '')")
	for iterations, right := range map[int]bool{0: false, 2: true} {
		users := all(t, opened(t, address, Options{Iterations: iterations}).Users(context.Background()))
		if len(users) != 1 || users[0].Password.Verify(secret.NewText("correct horse")) != right {
			t.Errorf("%d iterations: %v", iterations, users)
		}
	}
}

// TestLockedUsers holds that older tables of FOSUserBundle say it in another
// column.
func TestLockedUsers(t *testing.T) {
	t.Parallel()
	address, db := filled(t, foreigntest.Postgres, "fos", 2, 1, 4)
	run(t, db, "ALTER TABLE fos_user ADD COLUMN locked BOOLEAN", "UPDATE fos_user SET locked = (id = 2)")
	s := opened(t, address, Options{})
	users, skipped, err := collect(s.Users(context.Background()))
	if len(users) != 1 || len(skipped) != 1 || err != nil {
		t.Errorf("%d users, %q, %v", len(users), skipped, err)
	}
	tokens, skipped, err := collect(s.Tokens(context.Background()))
	if len(tokens) != 2 || len(skipped) != 2 || err != nil {
		t.Errorf("%d tokens, %q, %v", len(tokens), skipped, err)
	}
}

// TestDigestsOfTokens holds that tokens of which there is but a digest are one
// error, which says what can be done.
func TestDigestsOfTokens(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0123456789abcdef", 4)
	for name, tt := range map[string]struct {
		token   string
		options Options
		refused bool
	}{
		"SHA-256":           {hex, Options{}, true},
		"hexadecimal":       {hex, Options{HexTokens: true}, false},
		"upper case":        {strings.ToUpper(hex), Options{}, false},
		"shorter":           {hex[1:], Options{}, false},
		"bcrypt":            {"$2a$12$" + hex[:53], Options{HexTokens: true}, true},
		"URL-safe base64":   {"_-" + hex[:41], Options{}, false},
		"tokens left alone": {hex, Options{Tables: map[string]string{"access_token": ""}, Kind: "doorkeeper"}, false},
	} {
		address, db := filled(t, foreigntest.SQLite, "doorkeeper", 4, 4, 10)
		// There are clear ones from before.
		run(t, db, "INSERT INTO oauth_access_tokens VALUES (99, 1, 1, '"+tt.token+"', NULL, NULL, '', '2026-05-05 00:00:00', NULL, '')")
		s := opened(t, address, tt.options)
		tokens, skipped, err := collect(s.Tokens(context.Background()))
		if (err != nil) != tt.refused || tt.refused && len(tokens) > 0 || len(skipped) > 0 {
			t.Errorf("%s: %d tokens, %q, %v", name, len(tokens), skipped, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "--table access_token=") || !strings.Contains(err.Error(), "--hex-tokens") || strings.Contains(err.Error(), "0123456789")) {
			t.Errorf("%s: %v", name, err)
		}
		if len(all(t, s.Clients(context.Background()))) != 4 {
			t.Errorf("%s: the clients cannot be read", name)
		}
	}
}

// TestDigestsOfSecrets holds that a doorkeeper secret of 64 hexadecimal digits is
// taken for a digest, unless it is said that it is none.
func TestDigestsOfSecrets(t *testing.T) {
	t.Parallel()
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	address, db := empty(t, foreigntest.SQLite, "doorkeeper")
	run(t, db, "INSERT INTO oauth_applications VALUES (1, 'App', 'a', '"+abc+"', '', '', TRUE, '', '')")
	c := all(t, opened(t, address, Options{}).Clients(context.Background()))[0]
	if !c.Secret.Empty() || !c.Verifier.Verify(secret.NewText("abc")) {
		t.Errorf("as a digest: %v", c)
	}
	c = all(t, opened(t, address, Options{HexTokens: true}).Clients(context.Background()))[0]
	if !c.Secret.Equal(abc) || c.Verifier != "" {
		t.Errorf("clear: %v", c)
	}
}

// TestDoorkeeperColumns holds what its optional columns mean, those that are there
// and those that are not.
func TestDoorkeeperColumns(t *testing.T) {
	t.Parallel()
	address, db := filled(t, foreigntest.Postgres, "doorkeeper", 4, 4, 4)
	run(t, db,
		"ALTER TABLE oauth_access_tokens ADD COLUMN resource_owner_type VARCHAR(255)", "UPDATE oauth_access_tokens SET resource_owner_type = CASE id WHEN 1 THEN 'Admin' ELSE 'User' END",
		"ALTER TABLE oauth_access_tokens ADD COLUMN refresh_token_revoked_at TIMESTAMP", "UPDATE oauth_access_tokens SET refresh_token_revoked_at = created_at WHERE id = 2",
		"ALTER TABLE oauth_applications DROP COLUMN confidential", "ALTER TABLE users DROP COLUMN username",
	)
	s := opened(t, address, Options{})
	tokens, skipped, err := collect(s.Tokens(context.Background()))
	if len(tokens) != 2 || len(skipped) != 1 || err != nil || !strings.Contains(skipped[0], "its resource owner is a Admin") {
		t.Errorf("%d tokens, %q, %v", len(tokens), skipped, err)
	}
	for _, token := range tokens {
		if !strings.HasSuffix(token.Subject, "@example.org") {
			t.Errorf("the subject is %q", token.Subject)
		}
	}
	clients, skipped, err := collect(s.Clients(context.Background()))
	for _, c := range clients {
		if c.Secret.Empty() && c.Verifier == "" {
			t.Errorf("%s is public, though there were no public clients then", c.ID)
		}
	}
	if len(clients) != 4 || len(skipped) > 0 || err != nil {
		t.Errorf("%d clients, %q, %v", len(clients), skipped, err)
	}
	// Where refresh tokens are not in use, there is no column of them.
	if err := s.Close(); err != nil { // tables that are read cannot be altered
		t.Fatal(err)
	}
	run(t, db, "ALTER TABLE oauth_access_tokens DROP COLUMN refresh_token", "ALTER TABLE oauth_access_tokens DROP COLUMN refresh_token_revoked_at", "UPDATE oauth_access_tokens SET expires_in = NULL")
	tokens, _, err = collect(opened(t, address, Options{}).Tokens(context.Background()))
	if len(tokens) != 3 || err != nil || !tokens[0].Access || !tokens[0].ExpiresAt.IsZero() {
		t.Errorf("%d access tokens, %v", len(tokens), err)
	}
}

// TestOldDjango holds that tables of before refresh tokens were kept after they
// were revoked, and of before a user could be someone else's, can be read.
func TestOldDjango(t *testing.T) {
	t.Parallel()
	address, db := filled(t, foreigntest.Postgres, "django", 4, 4, 4)
	run(t, db, "ALTER TABLE oauth2_provider_refreshtoken DROP COLUMN revoked", "ALTER TABLE oauth2_provider_accesstoken DROP COLUMN source_refresh_token_id",
		"ALTER TABLE oauth2_provider_application DROP COLUMN skip_authorization", "ALTER TABLE auth_user RENAME TO accounts_member", "ALTER TABLE accounts_member RENAME COLUMN username TO email2",
		"UPDATE accounts_member SET email = 'm' || id")
	s := opened(t, address, Options{})
	tokens := all(t, s.Tokens(context.Background()))
	if len(tokens) != 4 || tokens[0].Subject != "m1" || tokens[1].Scope != "read write" {
		t.Errorf("%v", tokens)
	}
	if clients := all(t, s.Clients(context.Background())); len(clients) != 4 || clients[0].Trusted {
		t.Errorf("%v", clients)
	}
}
