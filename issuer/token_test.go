package issuer_test

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
	"maps"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
)

// documented are the regular expressions that secret scanners are given.
var documented = map[string]*regexp.Regexp{
	"code":    regexp.MustCompile(`^egc_[A-Za-z0-9_-]{88}$`),
	"refresh": regexp.MustCompile(`^egr_[A-Za-z0-9_-]{60}$`),
	"access":  regexp.MustCompile(`^ega_[A-Za-z0-9_-]{60,}$`),
}

func TestTokensHaveTheDocumentedForm(t *testing.T) {
	e := newSite(t, setup{})
	code := e.code(app)
	tokens := e.redeem(app, code).tokens(t)
	machine := e.post(issuer.TokenPath, app, "grant_type", "client_credentials", "scope", "read").tokens(t)
	short := e.register(party{"s", "s3cret-that-a-person-chose"}, issuer.Client{GrantTypes: []string{oauth.GrantClientCredentials}, Scopes: oauth.Scope{"r"}, Policy: issuer.Policy{Format: issuer.FormatOpaque}})
	for _, c := range []struct{ kind, token string }{
		{"code", code}, {"refresh", tokens.RefreshToken}, {"access", tokens.AccessToken}, {"access", machine.AccessToken},
		{"access", e.post(issuer.TokenPath, short, "grant_type", "client_credentials").tokens(t).AccessToken},
	} {
		if !documented[c.kind].MatchString(c.token) {
			t.Errorf("%s %q is not %s", c.kind, c.token, documented[c.kind])
		}
		if bits := entropy(c.token); bits < 160 {
			t.Errorf("%s %q has %.0f bits by its characters", c.kind, c.token, bits)
		}
	}
}

// entropy is Shannon's over the characters, as the OpenID suite measures it.
func entropy(s string) float64 {
	counts, bits := map[rune]float64{}, 0.0
	for _, c := range s {
		counts[c]++
	}
	for _, n := range counts {
		bits -= n * math.Log2(n/float64(len(s)))
	}
	return bits
}

// TestTokensAreUnrelated: tokens of one chain share their reference and differ
// in about half of the bits of their MACs.
func TestTokensAreUnrelated(t *testing.T) {
	e := newSite(t, setup{})
	tokens, distance, steps := e.login(app), 0, 40
	for range steps {
		next := e.refreshed(app, tokens.RefreshToken)
		a, b := tokenBytes(t, tokens.RefreshToken), tokenBytes(t, next.RefreshToken)
		for i := 24; i < len(a); i++ {
			for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
				distance++
			}
		}
		tokens = next
	}
	if mean := float64(distance) / float64(steps); mean < 70 || mean > 98 { // of 168 bits: six standard deviations
		t.Errorf("on average %.1f of 168 bits change", mean)
	}
}

// tokenBytes decodes what follows the prefix of a token.
func tokenBytes(t testing.TB, token string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(token[4:])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tokenText(prefix string, b []byte) string {
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// forgeries are texts that look like a genuine token and are none.
func forgeries(t testing.TB, token string) map[string]string {
	t.Helper()
	all := map[string]string{
		"with a space":         token + " ",
		"twice":                token + token[4:],
		"with padding":         token + "=",
		"with a newline":       token + "\n",
		"newline inside":       token[:20] + "\n" + token[20:],
		"newline for a letter": token[:20] + "\n" + token[21:],
		"newlines":             token[:4] + strings.Repeat("\n", len(token)-4),
		"newlines, but three":  token[:7] + strings.Repeat("\r", len(token)-7),
		"newlines, but half":   token[:36] + strings.Repeat("\r\n", (len(token)-36)/2),
		"upper case":           strings.ToUpper(token),
		"standard alphabet":    strings.NewReplacer("-", "+", "_", "/").Replace(token[4:]),
		"not base64":           token[:10] + "*" + token[11:],
		"not ASCII":            token[:10] + "é" + token[12:],
	}
	for i := range len(token) {
		all["cut at "+token[:i]] = token[:i]
	}
	b := tokenBytes(t, token)
	for i := range len(b) * 8 {
		flipped := append([]byte(nil), b...)
		flipped[i/8] ^= 1 << (i % 8)
		all["flipped "+tokenText(token[:4], flipped)] = tokenText(token[:4], flipped)
	}
	return all
}

func TestForgedRefreshTokens(t *testing.T) {
	t.Parallel()
	e, count := tallied(t)
	tokens, code := e.login(app), e.code(app)
	e.refreshed(app, tokens.RefreshToken)
	elsewhere := newSite(t, setup{})
	all := forgeries(t, tokens.RefreshToken)
	all["from another key ring"] = elsewhere.login(app).RefreshToken
	all["an access token"] = tokens.AccessToken
	all["a code"] = code
	all["a code under its prefix"] = issuer.RefreshPrefix + code[4:]
	all["a code's reference and MAC"] = tokenText(issuer.RefreshPrefix, tokenBytes(t, code)[:45])
	all["without a prefix"] = tokens.RefreshToken[4:]
	all["under another prefix"] = issuer.AccessPrefix + tokens.RefreshToken[4:]
	for generation := range uint32(5) { // of the past and of the future, under this one's MAC
		b := tokenBytes(t, tokens.RefreshToken)
		binary.BigEndian.PutUint32(b[20:], generation)
		if generation != 1 {
			all["of generation "+string(rune('0'+generation))] = tokenText(issuer.RefreshPrefix, b)
		}
	}
	reads, writes := count.took(func() {
		for name, forged := range all {
			if forged == "" {
				continue
			}
			if r := e.refresh(app, forged); r.status != 400 || r.failure() != oauth.InvalidGrant {
				t.Errorf("%q: %d %s", name, r.status, r.body)
			}
			if r := e.post(issuer.RevokePath, app, "token", forged); r.status != 200 && !strings.HasPrefix(name, "a") {
				t.Errorf("revocation of %q: %d %s", name, r.status, r.body)
			}
		}
	})
	// The tokens of other kinds among them are genuine, and were revoked.
	if reads > 1+2*lookedUp(maps.Values(all)) || writes > 2 {
		t.Errorf("%d reads and %d writes for forged tokens", reads, writes)
	}
}

func TestForgedCodes(t *testing.T) {
	t.Parallel()
	e, count := tallied(t)
	code := e.code(app)
	tokens := e.login(app)
	all := forgeries(t, code)
	all["from another key ring"] = newSite(t, setup{}).code(app)
	all["a refresh token"] = tokens.RefreshToken
	all["a refresh token under its prefix"] = issuer.CodePrefix + tokens.RefreshToken[4:]
	all["a refresh token, filled up"] = tokenText(issuer.CodePrefix, append(tokenBytes(t, tokens.RefreshToken), tokenBytes(t, code)[45:]...))
	reads, writes := count.took(func() {
		for name, forged := range all {
			if forged == "" {
				continue
			}
			if r := e.redeem(app, forged); r.status != 400 || r.failure() != oauth.InvalidGrant {
				t.Errorf("%q: %d %s", name, r.status, r.body)
			}
		}
	})
	// A flipped bit of the second MAC is a genuine code without what belongs to
	// it, which is noted, once.
	if reads != 0 || writes > 1 {
		t.Errorf("%d reads and %d writes for forged codes", reads, writes)
	}
	e.redeem(app, code).tokens(t)
}

func TestForgedAccessTokens(t *testing.T) {
	t.Parallel()
	for name, policy := range formats {
		t.Run(name, func(t *testing.T) {
			e, count := tallied(t)
			as := e.variant("variant", policy)
			token := e.login(as).AccessToken
			e.wantAlive("access token", token)
			forged := map[string]bool{}
			for i := range len(token) {
				forged[token[:i]] = true
				forged[token[:i]+"\n"+token[i:]] = true
				for _, c := range []string{"A", "B", "-", "."} {
					forged[token[:i]+c+token[i+1:]] = true
				}
			}
			delete(forged, token)
			delete(forged, "")
			if name == "opaque" {
				for _, text := range forgeries(t, token) {
					forged[text] = true
				}
			}
			reads, writes := count.took(func() {
				for text := range forged {
					if text != "" && e.introspect(text).Active && !sameSignature(token, text) {
						t.Fatalf("%q is active", text)
					}
				}
			})
			if most := 2*3 + 2*lookedUp(maps.Keys(forged)); reads > most || writes != 0 { // two for a text that says the same
				t.Errorf("%d reads and %d writes for forged tokens", reads, writes)
			}
		})
	}
}

// lookedUp counts the texts that do not begin as our tokens do: an imported token
// may look like anything, so each is looked for by its digest when somebody who
// may asks what it is.
func lookedUp(texts iter.Seq[string]) (n int64) {
	for text := range texts {
		if !strings.HasPrefix(text, issuer.RefreshPrefix) && !strings.HasPrefix(text, issuer.CodePrefix) && !strings.HasPrefix(text, issuer.AccessPrefix) {
			n++
		}
	}
	return n
}

// sameSignature reports whether two JWTs differ in bits of the last character
// alone that base64 does not use.
func sameSignature(a, b string) bool {
	if len(a) != len(b) || a[:len(a)-1] != b[:len(b)-1] || strings.Count(a, ".") != 2 {
		return false
	}
	decode := func(s string) string {
		sum, err := base64.RawURLEncoding.DecodeString(s[strings.LastIndexByte(s, '.')+1:])
		if err != nil {
			return ""
		}
		return string(sum)
	}
	return decode(a) == decode(b)
}

// TestTokensOfTheFuture: a genuine token from a server that is ahead in time.
func TestTokensOfTheFuture(t *testing.T) {
	e := newSite(t, setup{})
	e.clock.advance(time.Hour)
	tokens, code := e.login(app), e.code(app)
	e.clock.advance(-time.Hour)
	e.wantAlive("access token", tokens.AccessToken)
	e.refreshed(app, tokens.RefreshToken)
	e.redeem(app, code).tokens(t)
}
