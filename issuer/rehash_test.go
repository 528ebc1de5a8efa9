package issuer_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// foreignVerifier is what a server that kept bare SHA-1 has of a secret.
func foreignVerifier(t testing.TB, text string) secret.Verifier {
	t.Helper()
	digest := sha1.Sum([]byte(text))
	verifier, err := secret.ForeignVerifier("{sha1}" + hex.EncodeToString(digest[:]))
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

const importedPassword = "brent123"

// signIn is a password grant of an imported user.
func (e *site) signIn(password string) reply {
	e.t.Helper()
	return e.post(issuer.TokenPath, app, "grant_type", "password", "username", "brent", "password", password)
}

// form is how a user's password is kept.
func (e *site) form(username string) string {
	e.t.Helper()
	user, err := e.db.User(e.ctx(), username)
	e.must(err)
	return fmt.Sprint(user.Password)
}

func (e *site) importBrent() {
	e.t.Helper()
	report, err := e.admin.Import(e.ctx(), operator, issuer.Import{Source: "old", Users: []issuer.ImportUser{{Username: "brent", Password: foreignVerifier(e.t, importedPassword)}}})
	e.must(err)
	if report.Users.Created != 1 {
		e.t.Fatalf("%+v", report)
	}
}

// TestPasswordIsRehashed: a wrong password changes nothing; the first right one is
// hashed as our own are, and goes on being right.
func TestPasswordIsRehashed(t *testing.T) {
	e := newSite(t, setup{})
	e.importBrent()
	old := e.form("brent")
	e.signIn("wrong").wantError(t, 400, oauth.InvalidGrant)
	if now := e.form("brent"); now != old || strings.HasPrefix(now, "argon2id") {
		t.Fatalf("after a wrong password there is a %s, was %s", now, old)
	}
	e.signIn(importedPassword).tokens(t)
	if now := e.form("brent"); now != "argon2id verifier" {
		t.Errorf("after a sign-in there is a %s", now)
	}
	if event := e.wantEvent(issuer.EventSecretRehashed, ""); event.Subject != "brent" || event.Actor != "user:brent" {
		t.Errorf("%+v", event)
	}
	e.signIn("wrong").wantError(t, 400, oauth.InvalidGrant)
	e.signIn(importedPassword).tokens(t)
	e.wantEvent(issuer.EventSecretRehashed, "")
	if n := e.uses(app.id)[issuer.HabitImportedSecret].Count; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestManyFirstSignIns: however many sign in at once, all are let in and one form
// is stored.
func TestManyFirstSignIns(t *testing.T) {
	e := newSite(t, setup{})
	e.importBrent()
	answers := make([]reply, 6)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = e.signIn(importedPassword) })
	}
	all.Wait()
	for _, answer := range answers {
		answer.tokens(t)
	}
	e.wantEvent(issuer.EventSecretRehashed, "")
}

// forgetful is a store that cannot rehash, or does and says that it did not.
type forgetful struct {
	issuer.Store
	applied bool
}

var errRehash = errors.New("injected")

func (f *forgetful) RehashUser(ctx context.Context, username string, old, verifier secret.Verifier, event issuer.Event) (bool, error) {
	if f.applied {
		f.Store.RehashUser(ctx, username, old, verifier, event)
	}
	return false, errRehash
}

// TestRehashFails: a sign-in does not depend on it, whether or not it was done.
func TestRehashFails(t *testing.T) {
	for _, applied := range []bool{false, true} {
		e := newSite(t, setup{wrap: func(s issuer.Store) issuer.Store { return &forgetful{s, applied} }})
		e.importBrent()
		e.signIn(importedPassword).tokens(t)
		e.signIn("wrong").wantError(t, 400, oauth.InvalidGrant)
		e.signIn(importedPassword).tokens(t)
		if ours := e.form("brent") == "argon2id verifier"; ours != applied {
			t.Errorf("applied %t: there is a %s", applied, e.form("brent"))
		}
	}
}

// TestPasswordChangedDuringSignIn: a password that an operator sets while the old
// one is being verified is not undone by hashing the old one anew.
func TestPasswordChangedDuringSignIn(t *testing.T) {
	e := newSite(t, setup{})
	e.importBrent()
	old, err := e.db.User(e.ctx(), "brent")
	e.must(err)
	_, err = e.admin.SaveUser(e.ctx(), operator, issuer.User{Username: "brent", Password: secret.NewVerifier(secret.NewText("a new one"))})
	e.must(err)
	done, err := e.db.RehashUser(e.ctx(), "brent", old.Password, secret.NewVerifier(secret.NewText(importedPassword)), issuer.Event{At: e.clock.now(), Type: issuer.EventSecretRehashed})
	if done || err != nil {
		t.Errorf("rehashed %t, %v", done, err)
	}
	e.signIn(importedPassword).wantError(t, 400, oauth.InvalidGrant)
	e.signIn("a new one").tokens(t)
}

// TestClientSecretIsRehashed: the same with a client's secret.
func TestClientSecretIsRehashed(t *testing.T) {
	e := newSite(t, setup{})
	_, err := e.admin.Import(e.ctx(), operator, issuer.Import{Source: "old", Clients: []issuer.ImportClient{
		{ID: "hashed", Verifier: foreignVerifier(t, "s3cret"), GrantTypes: []string{oauth.GrantClientCredentials}},
	}})
	e.must(err)
	ask := func(text string) reply {
		return e.post(issuer.TokenPath, party{"hashed", text}, "grant_type", "client_credentials")
	}
	ask("wrong").wantError(t, 401, oauth.InvalidClient)
	for range 3 {
		ask("s3cret").tokens(t)
	}
	client, err := e.db.Client(e.ctx(), "hashed")
	e.must(err)
	if len(client.Secrets) != 1 || client.Secrets[0].Foreign() {
		t.Errorf("kept as %v", client.Secrets)
	}
	if event := e.wantEvent(issuer.EventSecretRehashed, ""); event.ClientID != "hashed" {
		t.Errorf("%+v", event)
	}
	ask("wrong").wantError(t, 401, oauth.InvalidClient)
}
