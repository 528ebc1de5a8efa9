package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/spf13/cobra"
)

// pipe is a run of the program with a text on stdin, at a certain time.
func pipe(text string) *invocation {
	at := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	return &invocation{program: program{now: at}, stdin: strings.NewReader(text)}
}

// TestTokenAnswers has the dialects of token endpoints.
func TestTokenAnswers(t *testing.T) {
	const at, never = "2026-01-02T04:04:05Z", "0001-01-01T00:00:00Z"
	for _, test := range []struct{ name, text, want string }{
		{"usual", `{"access_token":"A","refresh_token":"R","token_type":"bearer","expires_in":3600,"scope":"a b"}`, "A R bearer [a b] " + at + " " + never},
		{"refresh token alone", `{"refresh_token":"R"}`, " R  [] " + never + " " + never},
		{"number in a text", `{"access_token":"A","expires_in":"3600"}`, "A   [] " + at + " " + never},
		{"fraction", `{"access_token":"A","expires_in":3.6e3}`, "A   [] " + at + " " + never},
		{"null and empty", `{"access_token":"A","refresh_token":null,"expires_in":null,"expires_at":"","scope":null,"refresh_token_expires_in":""}`, "A   [] " + never + " " + never},
		{"list of scopes, commas", `{"access_token":"A","scope":["a","b,c"]}`, "A   [a b,c] " + never + " " + never},
		{"commas", `{"access_token":"A","scope":"a,b, c"}`, "A   [a b c] " + never + " " + never},
		{"RFC 3339", `{"access_token":"A","expires_at":"2026-01-02T05:04:05+01:00"}`, "A   [] 2026-01-02T05:04:05+01:00 " + never},
		{"seconds since the epoch", `{"access_token":"A","expires_at":1767326645}`, "A   [] " + at + " " + never},
		{"milliseconds since the epoch", `{"access_token":"A","expires_at":"1767326645000"}`, "A   [] " + at + " " + never},
		{"a time wins", `{"access_token":"A","expires_in":5,"expires_at":1767326645}`, "A   [] " + at + " " + never},
		{"refresh token's lifetime", `{"access_token":"A","refresh_token_expires_in":3600}`, "A   [] " + never + " " + at},
		{"refresh token's lifetime, otherwise", `{"access_token":"A","refresh_expires_in":"3600"}`, "A   [] " + never + " " + at},
		{"refresh token's end", `{"access_token":"A","refresh_token_expires_at":"` + at + `"}`, "A   [] " + never + " " + at},
		{"what else there is", `{"access_token":"A","info":{"companies":[1]},"id_token":"x","error":0}`, "A   [] " + never + " " + never},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokens, err := pipe(test.text).readTokens(&cobra.Command{}, tokenFlags{})
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%s %s %s %v %s %s", tokens.AccessToken.Reveal(), tokens.RefreshToken.Reveal(), tokens.TokenType, []string(tokens.Scope),
				tokens.ExpiresAt.Format(time.RFC3339), tokens.RefreshExpiresAt.Format(time.RFC3339))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestTokenFlagsWin(t *testing.T) {
	flags := tokenFlags{scopes: []string{"x"}, tokenType: "DPoP", expiresIn: "30m", refreshExpiresAt: "2027-01-02T03:04:05Z"}
	in := pipe(`{"access_token":"A","scope":"a","token_type":"bearer","expires_in":5,"refresh_token_expires_in":5}`)
	tokens, err := in.readTokens(&cobra.Command{}, flags)
	if err != nil || tokens.Scope.String() != "x" || tokens.TokenType != "DPoP" || !tokens.ExpiresAt.Equal(in.now().Add(30*time.Minute)) || tokens.RefreshExpiresAt.Year() != 2027 {
		t.Errorf("tokens %+v, error %v", tokens, err)
	}
	tokens, err = pipe("").readTokens(&cobra.Command{}, tokenFlags{none: true})
	if err != nil || !tokens.AccessToken.Empty() || !tokens.RefreshToken.Empty() {
		t.Errorf("without tokens: %+v, error %v", tokens, err)
	}
	tokens, err = pipe("R\n").readTokens(&cobra.Command{}, tokenFlags{refreshFile: "-", expiresAt: "2027-01-02T03:04:05Z"})
	if err != nil || tokens.RefreshToken.Reveal() != "R" || tokens.ExpiresAt.Year() != 2027 {
		t.Errorf("on stdin: %+v, error %v", tokens, err)
	}
}

// FuzzTokenAnswer looks for an answer that ends the program, gives a connection
// of nothing, or is shown in an error.
func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"A","refresh_token":"R","expires_in":3600}`, `{"refresh_token":"","expires_at":1e300,"scope":[1]}`, `[]`, `"`, `{"access_token":"hush-hush`,
		`{"access_token":"A","expires_in":-1}`, `{"access_token":"A","expires_at":"hush-hush","scope":{"a":1}}`, "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := pipe(text).readTokens(&cobra.Command{Use: "x"}, tokenFlags{})
		told, ok := errors.AsType[*failure](err)
		if err != nil && (!ok || told.code != exitUsage || told.next == "" || strings.Contains(text, "hush-hush") && strings.Contains(told.what+told.next, "hush-hush")) {
			t.Errorf("error %v", err)
		}
		if err != nil && (!tokens.AccessToken.Empty() || !tokens.RefreshToken.Empty()) {
			t.Error("tokens beside an error")
		}
		if tokens.ExpiresAt.Year() > 9999 || tokens.RefreshExpiresAt.Year() > 9999 {
			t.Errorf("tokens %+v end at a time that JSON cannot have", evergrant.Tokens{ExpiresAt: tokens.ExpiresAt, RefreshExpiresAt: tokens.RefreshExpiresAt})
		}
	})
}
