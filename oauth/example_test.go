package oauth_test

import (
	"fmt"

	"github.com/evergrant/evergrant/oauth"
)

func ExampleParseScope() {
	granted, err := oauth.ParseScope("read write profile")
	if err != nil {
		fmt.Println(err)
		return
	}
	asked, err := oauth.ParseScope("write  read write")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("asked:", asked)
	fmt.Println("covered by what was granted:", granted.Covers(asked))
	fmt.Println("the same:", granted.Equal(asked))
	// Output:
	// asked: write read
	// covered by what was granted: true
	// the same: false
}

// The client sends the challenge with the authorization request, and the
// verifier with the code.
func ExampleVerifyChallenge() {
	verifier := "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // of RFC 7636 appendix B
	challenge := oauth.Challenge(verifier)

	fmt.Println(challenge)
	fmt.Println(oauth.VerifyChallenge(verifier, challenge))
	fmt.Println(oauth.VerifyChallenge("another-verifier-of-a-sufficient-length-0123", challenge))
	// Output:
	// E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM
	// true
	// false
}

func ExampleMatchRedirectURI() {
	registered := "http://127.0.0.1/callback"
	fmt.Println(oauth.MatchRedirectURI(registered, "http://127.0.0.1:51004/callback"))
	fmt.Println(oauth.MatchRedirectURI(registered, "http://127.0.0.1:80@evil.example/callback"))
	// Output:
	// true
	// false
}

func ExampleParseClientAuth() {
	body, err := oauth.ParseParams("grant_type=client_credentials")
	if err != nil {
		fmt.Println(err)
		return
	}
	auth, err := oauth.ParseClientAuth([]string{oauth.BasicHeader("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")}, body)
	fmt.Println(auth, err)
	// Output:
	// client_secret_basic s6BhdRkqt3 <nil>
}
