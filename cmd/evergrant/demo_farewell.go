package main

import (
	"fmt"
	"strings"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/providertest"
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

	t.out.aside("As an application: a token of a connection, and a call of the provider's API with it, or by the proxy without it. " +
		"Access tokens live for " + oauth.Lifetime(calmLife).String() + " from now on; the connections are renewed as long as the server is up.")
	bearer := "-H " + quote("Authorization: Bearer "+t.admin.Token.Reveal())
	t.out.command("curl", bearer, quote(t.base+connectionPath(onTink, "/token")))
	t.out.command("curl", "-H "+quote("Authorization: Bearer ")+`"$(`+strings.Join(administration(t.admin, "token", onEventix), " ")+`)"`, quote(t.eventixAPI+providertest.MePath))
	t.out.command("curl", bearer, quote(t.base+proxyPath(onFlexiti)))
	t.out.aside("As a user who connects at Eventix: open what this prints in a browser, and consent there.")
	t.out.command(administration(t.admin, "connection", "connect", "eventix", "--owner you")...)

	t.out.aside("As an operator, with the admin token of this server; event follow, connection list, provider list, client list and explain work alike. " +
		"The console asks for the token: " + t.admin.Token.Reveal())
	t.out.command(administration(t.admin, "grant", "list")...)
	t.out.command(administration(t.admin, "connection", "history", onTink)...)
	fmt.Fprintln(t.out.w)
	t.out.block(t.base + "/console/")

	t.out.aside("What every client and every monitor can read:")
	fmt.Fprintln(t.out.w)
	for _, path := range []string{issuer.MetadataPath, issuer.JWKSPath, "/readyz", "/metrics"} {
		t.out.block(t.base + path)
	}
	t.out.aside("The renewals, as they come:")
}
