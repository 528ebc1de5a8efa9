package foreign

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign/foreigntest"
	"github.com/evergrant/evergrant/secret"
)

// TestKinds reads each kind of server from each database, and holds that each row
// is what foreigntest says it is.
func TestKinds(t *testing.T) {
	const users, clients, tokens = 24, 8, 400
	for _, kind := range Kinds() {
		for _, dialect := range dialects {
			t.Run(kind+" "+dialect, func(t *testing.T) {
				t.Parallel()
				address, _ := filled(t, dialect, kind, users, clients, tokens)
				s := opened(t, address, Options{})
				if s.Kind() != kind || !strings.HasPrefix(s.Name(), kind+" "+dialect+":") {
					t.Errorf("kind %s, name %q", s.Kind(), s.Name())
				}
				nc, nu, nt, err := s.Count(context.Background())
				if err != nil || nc != clients || nu != users || nt < tokens*9/10 {
					t.Errorf("count %d %d %d, %v", nc, nu, nt, err)
				}
				checkClients(t, kind, all(t, s.Clients(context.Background())), clients)
				checkUsers(t, all(t, s.Users(context.Background())), users)
				checkTokens(t, kind, all(t, s.Tokens(context.Background())), users, clients, tokens)
				gone := int64(tokens / 10) // the refresh tokens
				switch kind {
				case "bshaffer", "fos":
					gone += tokens / 10
				default:
					gone += tokens * 9 / 10
				}
				if s.Expired() != gone {
					t.Errorf("%d tokens count as expired, want %d", s.Expired(), gone)
				}
				// Whoever reads it again gets it again.
				if again := all(t, s.Tokens(context.Background())); s.Expired() != gone || len(again) != tokens {
					t.Errorf("read again: %d tokens, %d expired", len(again), s.Expired())
				}
			})
		}
	}
}

func checkClients(t *testing.T, kind string, got []evergrant.ImportClient, n int) {
	t.Helper()
	if len(got) != n {
		t.Errorf("%d clients", len(got))
	}
	for i := range n {
		at := slices.IndexFunc(got, func(c evergrant.ImportClient) bool { return c.ID == foreigntest.ClientID(kind, i) })
		if at < 0 {
			t.Errorf("client %d is not there", i)
			continue
		}
		c := got[at]
		clear := secret.NewText(foreigntest.Secret(i))
		switch {
		case foreigntest.Public(i) && (!c.Secret.Empty() || c.Verifier != ""):
			t.Errorf("the public client %d has a secret", i)
		case !foreigntest.Public(i) && c.Verifier == "" && !c.Secret.Equal(clear.Reveal()):
			t.Errorf("client %d has another secret", i)
		case c.Verifier != "" && (!c.Secret.Empty() || !c.Verifier.Foreign() || !c.Verifier.Verify(clear)):
			t.Errorf("client %d: %s does not take its secret", i, c.Verifier)
		}
		if !slices.Equal(c.RedirectURIs, []string{foreigntest.RedirectURI(i)}) || !slices.Contains(c.GrantTypes, "refresh_token") {
			t.Errorf("client %d: %q, %q", i, c.RedirectURIs, c.GrantTypes)
		}
		if c.Trusted != (kind == "django" && i%10 == 0) {
			t.Errorf("client %d is trusted: %t", i, c.Trusted)
		}
		wantScope := map[string]string{"bshaffer": "profile read write", "doorkeeper": "read write profile"}[kind]
		if kind == "bshaffer" && i%2 == 1 {
			wantScope = "read write profile"
		}
		if c.Scope != wantScope {
			t.Errorf("client %d has the scope %q", i, c.Scope)
		}
	}
}

func checkUsers(t *testing.T, got []evergrant.ImportUser, n int) {
	t.Helper()
	if len(got) != n {
		t.Errorf("%d users", len(got))
	}
	for i := range n {
		at := slices.IndexFunc(got, func(u evergrant.ImportUser) bool { return u.Username == foreigntest.Username(i) })
		if at < 0 || !got[at].Password.Foreign() || got[at].Password.Check() != nil {
			t.Errorf("user %d: at %d", i, at)
			continue
		}
		if i%8 == 7 && !got[at].Password.Verify(secret.NewText(foreigntest.Password(i))) { // it is slow
			t.Errorf("user %d: %s refuses the password", i, got[at].Password)
		}
	}
}

// checkTokens also holds that each token comes once.
func checkTokens(t *testing.T, kind string, got []evergrant.ImportToken, users, clients, n int) {
	t.Helper()
	byText := map[string]evergrant.ImportToken{}
	accessFrom := len(got)
	for at, token := range got {
		if _, twice := byText[token.Token.Reveal()]; twice {
			t.Errorf("token %d comes twice", at)
		}
		byText[token.Token.Reveal()] = token
		if token.Access {
			accessFrom = min(accessFrom, at)
		} else if at > accessFrom {
			t.Errorf("refresh token at %d after an access token", at)
		}
	}
	if len(got) != n*9/10+n/10 {
		t.Errorf("%d tokens", len(got))
	}
	for i := range n {
		refresh, there := byText[foreigntest.Token(i)]
		if there == foreigntest.Expired(i) {
			t.Errorf("refresh token %d: there: %t", i, there)
		}
		access, live := byText[foreigntest.AccessToken(i)]
		if live != foreigntest.AccessLive(i) {
			t.Errorf("access token %d: there: %t", i, live)
		}
		if there && (refresh.Access || !refresh.ExpiresAt.Equal(foreigntest.ExpiresAt(kind, i))) {
			t.Errorf("refresh token %d: access: %t, expires %v", i, refresh.Access, refresh.ExpiresAt)
		}
		if live && (!access.Access || !access.ExpiresAt.Equal(foreigntest.AccessExpiresAt(i))) {
			t.Errorf("access token %d: access: %t, expires %v", i, access.Access, access.ExpiresAt)
		}
		for _, token := range []evergrant.ImportToken{refresh, access} {
			if token.Token.Empty() {
				continue
			}
			if token.ClientID != foreigntest.ClientID(kind, i%clients) || token.Subject != foreigntest.Username(i%users) || token.Scope != foreigntest.Scope(i) {
				t.Errorf("token %d: client %q, user %q, scope %q", i, token.ClientID, token.Subject, token.Scope)
			}
			if dated := kind == "doorkeeper" || kind == "django"; dated && !token.IssuedAt.Equal(foreigntest.IssuedAt()) || !dated && !token.IssuedAt.IsZero() {
				t.Errorf("token %d was issued at %v", i, token.IssuedAt)
			}
		}
	}
}
