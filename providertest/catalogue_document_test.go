package providertest

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
)

var update = flag.Bool("update", false, "write docs/CATALOGUE.md anew")

const catalogueFile = "../docs/CATALOGUE.md"

const catalogueHead = `# The catalogue

The definitions that come with the program: what is known of %d providers, as data. Written by
` + "`go test ./providertest -run TestCatalogueDocument -update`" + `, and held in step by that test.

* **access token** – how long one lives. Where answers tell it, what they tell counts.
* **rotation** – what a refresh does to the refresh token. ` + "`fixed`" + `: it stays. ` + "`rotating`" + `: there is a new one, and the old one ends. ` + "`single_use`" + `: and
  presenting the old one ends the whole grant. ` + "`none`" + `: there are no refresh tokens. Where nothing is known the keeper assumes ` + "`single_use`" + `.
* **when an answer is lost** – what the keeper does then. ` + "*In doubt*" + `: nothing is published, so it sends nothing blindly, serves the access token while that lives, and tries once when nothing is left to lose.
* **how known** – of how many behaviours somebody read what the provider, or whoever uses it, says; the others are only believed. An asterisk marks what is
  believed. The sources stand in the definitions (` + "[provider/definitions](../provider/definitions)" + `, under ` + "`facts`" + `).

What is wrong or missing can be overridden: in the registration of an app (` + "`keeper.providers`" + `), or by a file with the same name in
` + "`keeper.definitions`" + `. A definition for the catalogue needs a transcript of what the provider documents beside it
(` + "[providertest/testdata/transcripts](../providertest/testdata/transcripts)" + `), against which it is held.

| name | provider | begins with | access token | rotation | when an answer is lost | how known |
|---|---|---|---|---|---|---|
`

// TestCatalogueDocument holds docs/CATALOGUE.md in step with the definitions.
func TestCatalogueDocument(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, catalogueHead, len(catalogue().Names()))
	for _, name := range catalogue().Names() {
		out.WriteString(catalogueRow(definition(t, name)))
	}
	if *update {
		if err := os.WriteFile(catalogueFile, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(catalogueFile)
	if err != nil || string(is) != out.String() {
		t.Errorf("docs/CATALOGUE.md is not that of the definitions (%v); run go test ./providertest -run TestCatalogueDocument -update", err)
	}
}

func catalogueRow(d provider.Definition) string {
	title := cmp.Or(d.Title, d.Name)
	if d.Docs != "" {
		title = "[" + title + "](" + d.Docs + ")"
	}
	read := 0
	for _, fact := range d.Facts {
		if fact.Known == provider.KnownRead {
			read++
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %d of %d read |\n", d.Name, title, begins(d), life(d), rotation(d), recovery(d), read, len(d.Facts))
}

// marked is a text, with an asterisk where the fact behind it is only believed.
func marked(d provider.Definition, path, text string) string {
	if d.Facts[path].Known == provider.KnownBelieved {
		return text + "\\*"
	}
	return text
}

func begins(d provider.Definition) string {
	switch {
	case d.Grant != "":
		return "`" + d.Grant + "`"
	case d.AuthorizeURL == "" && d.Issuer == "":
		return "re-mint"
	}
	return "`authorization_code`"
}

func life(d provider.Definition) string {
	switch lifetime := d.AccessToken.Lifetime; {
	case lifetime == oauth.None && d.RefreshToken.Rotation == provider.RotationNone:
		return marked(d, "access_token.lifetime", "never ends")
	case lifetime == oauth.None:
		return marked(d, "access_token.lifetime", "as answers tell, else never ends")
	case lifetime == 0:
		return "as answers tell"
	default:
		return marked(d, "access_token.lifetime", lifetime.String())
	}
}

func rotation(d provider.Definition) string {
	known := d.RefreshToken
	parts := []string{"not known"}
	if known.Rotation != "" {
		parts[0] = marked(d, "refresh_token.rotation", "`"+string(known.Rotation)+"`")
	}
	if known.IdleLifetime > 0 {
		parts = append(parts, marked(d, "refresh_token.idle_lifetime", known.IdleLifetime.String()+" unused"))
	}
	if known.Lifetime > 0 {
		parts = append(parts, marked(d, "refresh_token.lifetime", known.Lifetime.String()+" in all"))
	}
	if known.DiesWithAccessToken {
		parts = append(parts, marked(d, "refresh_token.dies_with_access_token", "ends with the access token"))
	}
	return strings.Join(parts, ", ")
}

func recovery(d provider.Definition) string {
	var parts []string
	switch known := d.RefreshToken; {
	case known.Rotation == provider.RotationNone && d.Refresh.Params == nil:
		parts = append(parts, "nothing is refreshed")
	case !rotates(known.Rotation) && known.Rotation != "":
		parts = append(parts, marked(d, "refresh_token.rotation", "sends again"))
	case known.ReplayWindow > 0:
		parts = append(parts, marked(d, "refresh_token.replay_window", "sends again for "+known.ReplayWindow.String()))
	}
	if len(d.Remint.Steps) > 0 {
		parts = append(parts, marked(d, "remint", "re-mints"))
	}
	if parts == nil {
		return "*in doubt*"
	}
	return strings.Join(parts, ", then ")
}
