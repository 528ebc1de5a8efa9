package foreigntest

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// How tables have times.
var (
	issued  = IssuedAt().Format(time.DateTime)
	long    = "2021-03-04 05:06:07" // ago
	oldUnix = time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC).Unix()
)

// hashed are the passwords as hash makes them, in the order of the users.
func hashed(hash func(password string) string) []string {
	var all []string
	for i := range passwords {
		all = append(all, hash(Password(i)))
	}
	return all
}

func bcrypted(text string) string {
	made, err := bcrypt.GenerateFromPassword([]byte(text), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(made)
}

func hexSHA1(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

func hexSHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// symfony is Symfony's message digest, sha512 5,000 times.
func symfony(text, salt string) string {
	salted := []byte(text + "{" + salt + "}")
	sum := sha512.Sum512(salted)
	for range 4999 {
		sum = sha512.Sum512(append(sum[:], salted...))
	}
	return base64.StdEncoding.EncodeToString(sum[:])
}

// pbkdf2SHA256 is Django's form, with few iterations.
func pbkdf2SHA256(text string) string {
	key, err := pbkdf2.Key(sha256.New, text, []byte("seasalt"), 1000, 32)
	if err != nil {
		panic(err)
	}
	return "pbkdf2_sha256$1000$seasalt$" + base64.StdEncoding.EncodeToString(key)
}

// expiry is when a refresh token expires: once, never or some day.
func (f *filler) expiry(i int) (at time.Time, never bool) {
	if Expired(i) {
		return time.Unix(oldUnix, 0).UTC(), false
	}
	at = ExpiresAt(f.kind, i)
	return at, at.IsZero()
}

func (f *filler) bshaffer() {
	f.rows("oauth_scopes", 3, func(i int) []any { return []any{[]string{"read", "write", "profile"}[i], i == 0} })
	f.rows("oauth_clients", f.clients, func(i int) []any {
		grants, scope := any(nil), any(nil)
		if i%2 == 1 {
			grants, scope = "authorization_code password refresh_token", "read write profile"
		}
		return []any{ClientID(f.kind, i), optional(Secret(i)), RedirectURI(i), grants, scope, nil}
	})
	hashes := hashed(hexSHA1)
	f.rows("oauth_users", f.users, func(i int) []any {
		return []any{Username(i), hashes[i%passwords], "First", "Last", nil, nil, nil}
	})
	f.rows("oauth_refresh_tokens", f.tokens, func(i int) []any {
		at, never := f.expiry(i)
		expires := at.Format(time.DateTime)
		if never {
			expires = "1970-01-01 01:00:00" // as MySQL takes it
		}
		return []any{Token(i), ClientID(f.kind, i%f.clients), Username(i % f.users), expires, optional(Scope(i))}
	})
	f.rows("oauth_access_tokens", f.tokens, func(i int) []any {
		expires := long
		if AccessLive(i) {
			expires = AccessExpiresAt(i).Format(time.DateTime)
		} else if i%10 != 6 {
			return nil // somebody cleans up
		}
		return []any{AccessToken(i), ClientID(f.kind, i%f.clients), Username(i % f.users), expires, optional(Scope(i))}
	})
}

func (f *filler) fos() {
	f.rows("oauth2_client", f.clients, func(i int) []any {
		uri := RedirectURI(i)
		uris := fmt.Sprintf(`a:1:{i:0;s:%d:"%s";}`, len(uri), uri)
		grants := `a:3:{i:0;s:18:"authorization_code";i:1;s:8:"password";i:2;s:13:"refresh_token";}`
		if i%5 == 1 {
			uris, grants = `["`+uri+`"]`, `["authorization_code","password","refresh_token"]`
		}
		return []any{i + 1, digest("random", i), uris, optional(Secret(i)), grants, fmt.Sprintf("App %d", i)}
	})
	salt := func(i int) string { return digest("salt", i%passwords)[:31] }
	var digests []string
	for i := range passwords {
		digests = append(digests, symfony(Password(i), salt(i)))
	}
	crypts := hashed(bcrypted)
	f.rows("fos_user", f.users, func(i int) []any {
		email := fmt.Sprintf("user%d@example.org", i)
		var salted any = salt(i)
		hash := digests[i%passwords]
		if i/passwords%2 == 1 {
			salted, hash = nil, crypts[i%passwords]
		}
		return []any{i + 1, Username(i), Username(i), email, email, true, salted, hash, nil, "a:0:{}"}
	})
	f.rows("oauth2_refresh_token", f.tokens, func(i int) []any {
		at, never := f.expiry(i)
		expires := any(at.Unix())
		if never {
			expires = nil
		}
		return []any{i + 1, i%f.clients + 1, i%f.users + 1, Token(i), expires, optional(Scope(i))}
	})
	f.rows("oauth2_access_token", f.tokens, func(i int) []any {
		expires := oldUnix
		if AccessLive(i) {
			expires = AccessExpiresAt(i).Unix()
		} else if i%10 != 6 {
			return nil
		}
		return []any{i + 1, i%f.clients + 1, i%f.users + 1, AccessToken(i), expires, optional(Scope(i))}
	})
}

func (f *filler) doorkeeper() {
	f.rows("oauth_applications", f.clients, func(i int) []any {
		secret := Secret(i)
		switch i % 4 {
		case 1:
			secret = hexSHA256(secret)
		case 2:
			secret = bcrypted(secret)
		case 3:
			secret = "not used"
		}
		return []any{i + 1, fmt.Sprintf("App %d", i), ClientID(f.kind, i), secret, RedirectURI(i), "read write profile", !Public(i), issued, issued}
	})
	hashes := hashed(bcrypted)
	f.rows("users", f.users, func(i int) []any {
		return []any{i + 1, fmt.Sprintf("user%d@example.org", i), hashes[i%passwords], Username(i), issued, issued}
	})
	f.rows("oauth_access_tokens", f.tokens, func(i int) []any {
		lifetime, revoked := int64(7200), any(nil)
		if AccessLive(i) {
			lifetime = int64(AccessExpiresAt(i).Sub(IssuedAt()).Seconds())
		}
		if Expired(i) {
			revoked = issued
		}
		return []any{i + 1, i%f.users + 1, i%f.clients + 1, AccessToken(i), Token(i), lifetime, Scope(i), issued, revoked, ""}
	})
}

func (f *filler) django() {
	f.rows("oauth2_provider_application", f.clients, func(i int) []any {
		secret, form := Secret(i), "confidential"
		if i%4 != 1 {
			secret = pbkdf2SHA256(secret)
		}
		if Public(i) {
			form = "public"
		}
		grant := []string{"authorization-code", "password"}[i%2]
		return []any{i + 1, ClientID(f.kind, i), RedirectURI(i), form, grant, secret, fmt.Sprintf("App %d", i), nil, i%10 == 0, issued, issued, "", i%4 != 1}
	})
	hashes := hashed(pbkdf2SHA256)
	f.rows("auth_user", f.users, func(i int) []any {
		return []any{i + 1, hashes[i%passwords], nil, false, Username(i), "", "", "", false, true, issued}
	})
	f.rows("oauth2_provider_accesstoken", f.tokens, func(i int) []any {
		expires := long
		if AccessLive(i) {
			expires = AccessExpiresAt(i).Format(time.DateTime)
		}
		return []any{i + 1, AccessToken(i), hexSHA256(AccessToken(i)), expires, Scope(i), i%f.clients + 1, i%f.users + 1, issued, issued, nil}
	})
	f.rows("oauth2_provider_refreshtoken", f.tokens, func(i int) []any {
		revoked := any(nil)
		if Expired(i) {
			revoked = issued
		}
		return []any{i + 1, Token(i), i + 1, i%f.clients + 1, i%f.users + 1, issued, issued, revoked, nil}
	})
}
