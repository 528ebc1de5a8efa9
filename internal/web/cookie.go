package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// signInLifetime is how long a sign-in lasts.
const signInLifetime = 12 * time.Hour

// signIn is what the browser keeps of a sign-in, sealed. Nothing of it is
// stored, so that signing out ends it in this browser only; a new password ends
// it everywhere.
type signIn struct {
	Username string    `json:"u"`
	At       time.Time `json:"t"`
	ID       []byte    `json:"i"` // random, since equal plaintexts are sealed to equal bytes
	Password []byte    `json:"p"` // digest of the password's verifier at the time
}

func passwordDigest(user issuer.User) []byte {
	digest := sha256.Sum256([]byte(user.Password))
	return digest[:16]
}

// cookieName is one that only this host over https can set, where the server is
// reached by https.
func (p *Pages) cookieName() string {
	if p.secure {
		return "__Host-evergrant_sign_in"
	}
	return "evergrant_sign_in"
}

func (p *Pages) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: p.cookieName(), Value: value, Path: "/", MaxAge: maxAge,
		Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// keepSignIn has the browser remember who signed in.
func (p *Pages) keepSignIn(w http.ResponseWriter, user issuer.User) error {
	value, err := sealText(p.config.Keys, p.cookieName(), signIn{user.Username, p.config.Now(), secret.Bytes(16), passwordDigest(user)})
	if err != nil {
		return err
	}
	p.setCookie(w, value, int(signInLifetime/time.Second))
	return nil
}

// sealText seals a document for a browser to keep under a name.
func sealText(keys *secret.Ring, name string, document any) (string, error) {
	plain, err := json.Marshal(document)
	if err != nil {
		return "", err
	}
	sealed := keys.Seal(secret.BrowserSeal, plain, []byte(name))
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, sealed.KeyID), sealed.Data...)), nil
}

// openText opens what sealText sealed under the same name.
func openText(keys *secret.Ring, name, value string, document any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil || len(sealed) < 4 {
		return errSignedOut
	}
	plain, err := keys.Open(secret.BrowserSeal, secret.Sealed{KeyID: binary.BigEndian.Uint32(sealed), Data: sealed[4:]}, []byte(name))
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, document)
}

// errSignedOut says that a cookie is not that of a sign-in which still holds.
var errSignedOut = errors.New("web: not signed in")

// signedIn is who is signed in, or errSignedOut, or the store's error.
func (p *Pages) signedIn(r *http.Request) (issuer.User, error) {
	for _, cookie := range r.CookiesNamed(p.cookieName()) {
		state, err := p.openSignIn(cookie.Value)
		if err != nil {
			continue
		}
		return p.stillUser(r.Context(), state)
	}
	return issuer.User{}, errSignedOut
}

// openSignIn opens a cookie's value. Any error means that it is none of ours.
func (p *Pages) openSignIn(value string) (signIn, error) {
	var state signIn
	if err := openText(p.config.Keys, p.cookieName(), value, &state); err != nil {
		return signIn{}, err
	}
	if p.config.Now().Sub(state.At) >= signInLifetime {
		return signIn{}, errSignedOut
	}
	return state, nil
}

// stillUser is the user of a sign-in, if there still is one with the same
// password.
func (p *Pages) stillUser(ctx context.Context, state signIn) (issuer.User, error) {
	user, err := p.config.User(ctx, state.Username)
	switch {
	case errors.Is(err, issuer.ErrNotFound):
		return issuer.User{}, errSignedOut
	case err != nil:
		return issuer.User{}, err
	case subtle.ConstantTimeCompare(passwordDigest(user), state.Password) != 1:
		return issuer.User{}, errSignedOut
	}
	return user, nil
}
