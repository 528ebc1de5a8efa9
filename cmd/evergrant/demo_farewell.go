package main

import (
	"fmt"

	"github.com/evergrant/evergrant/issuer"
)

// farewell says what to try on the server that stays up.
func (t *tour) farewell(application *app, dir string) {
	t.out.heading("Now try it yourself")
	t.out.prose("The server stays up until Ctrl-C, which removes its directory " + dir + "; evergrant.yaml in there is the configuration that it runs on.")

	t.out.aside("Refresh at your own pace. The last line may come again for 60 s, or until its successor is used; after that it ends the grant:")
	t.out.command("R=$(curl -s -u "+testClient, quote(t.base+issuer.TokenPath),
		"-d 'grant_type=password&username="+demoUsername+"&password="+demoPassword+"'", `| sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')`)
	t.out.command("curl -u "+testClient, quote(t.base+issuer.TokenPath), "-d grant_type=refresh_token", `-d "refresh_token=$R"`)
	t.out.aside("The grants of the tour have gone on: a refresh from above presents an old token now, and ends its grant, as it should.")

	t.out.aside("In a browser, sign in as " + demoUsername + " with password " + demoPassword + " and consent:")
	fmt.Fprintln(t.out.w, "\n    "+t.out.paint(cyan, authorizeURL(t.base, application.redirect(), "", application.verifier)))
	t.out.aside("It ends at a page of the client with the line that redeems the code. The code_verifier of this code_challenge is " + application.verifier)

	t.out.aside("As an operator, with the admin token of this server; event list, client list, key list and explain work alike:")
	t.out.command(t.administration("grant", "list")...)

	t.out.aside("What every client and every monitor can read:")
	fmt.Fprintln(t.out.w)
	for _, path := range []string{issuer.MetadataPath, issuer.JWKSPath, "/readyz", "/metrics"} {
		t.out.block(t.base + path)
	}
}
