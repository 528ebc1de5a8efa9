package provider

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/evergrant/evergrant/oauth"
)

// TestBuiltinDefinitionsParse names what is wrong with each file, where Builtin
// would only panic.
func TestBuiltinDefinitionsParse(t *testing.T) {
	files, err := fs.Glob(builtin, "definitions/*")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := fs.ReadFile(builtin, file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(file, data)
		if err != nil {
			t.Errorf("%v", err)
		} else if want := strings.TrimSuffix(filepath.Base(file), ".yaml"); d.Name != want {
			t.Errorf("%s has the name %s", file, d.Name)
		}
	}
	c := Builtin()
	names := c.Names()
	if len(names) != len(files) || !slices.IsSorted(names) {
		t.Errorf("the names are %v", names)
	}
	for _, name := range []string{"tink", "eventix", "flexiti", "evergrant", "fosoauthserver", "bshaffer"} {
		if d, ok := c.Definition(name); !ok || d.Name != name || d.Title == "" || d.Docs == "" {
			t.Errorf("%s: %+v, %v", name, d, ok)
		}
	}
	if _, ok := c.Definition("nobody"); ok {
		t.Error("there is a definition that is not there")
	}
}

// behaviours are the fields on which the keeper stakes a grant.
func behaviours(d Definition) []string {
	set := map[string]bool{
		"refresh_token.rotation":               d.RefreshToken.Rotation != "",
		"refresh_token.replay_window":          d.RefreshToken.ReplayWindow != 0,
		"refresh_token.idle_lifetime":          d.RefreshToken.IdleLifetime != 0,
		"refresh_token.lifetime":               d.RefreshToken.Lifetime != 0,
		"refresh_token.dies_with_access_token": d.RefreshToken.DiesWithAccessToken,
		"access_token.one_at_a_time":           d.AccessToken.OneAtATime,
		"access_token.no_early_refresh":        d.AccessToken.NoEarlyRefresh != 0,
		"access_token.lifetime":                d.AccessToken.Lifetime != 0,
		"remint":                               len(d.Remint.Steps) > 0,
		"limits.rate":                          d.Limits.Rate != Rate{},
		"limits.connection":                    d.Limits.Connection != Rate{},
	}
	var paths []string
	for path, is := range set {
		if is {
			paths = append(paths, path)
		}
	}
	return paths
}

// TestBuiltinBehavioursHaveFacts: what the keeper stakes a grant on says how it
// is known.
func TestBuiltinBehavioursHaveFacts(t *testing.T) {
	seen := 0
	for name, d := range Builtin().definitions {
		for _, path := range behaviours(d) {
			seen++
			if fact, ok := d.Facts[path]; !ok || fact.Known == "" || fact.Source == "" {
				t.Errorf("%s sets %s and has no fact for it", name, path)
			}
		}
	}
	if seen < 12 {
		t.Errorf("only %d behaviours are set", seen)
	}
}

// TestBuiltinDefinitionsSendNothingInClear: http is for definitions of users,
// and for params whose pattern lets it through.
func TestBuiltinDefinitionsSendNothingInClear(t *testing.T) {
	for name, d := range Builtin().definitions {
		urls := []string{d.Issuer, d.AuthorizeURL, d.TokenURL, d.RevokeURL, d.API.BaseURL, d.Token.URL, d.Exchange.URL, d.Refresh.URL, d.ClientCredentials.URL, d.Revoke.URL}
		for _, step := range d.Remint.Steps {
			urls = append(urls, step.URL)
		}
		for _, u := range urls {
			if strings.HasPrefix(u, "http:") {
				t.Errorf("%s: %s", name, u)
			}
		}
	}
}

// TestSeedDefinitions has the behaviours of the first providers.
func TestSeedDefinitions(t *testing.T) {
	c := Builtin()
	tink, _ := c.Definition("tink")
	if n := len(tink.Remint.Steps); n != 3 {
		t.Fatalf("tink is re-minted in %d steps", n)
	}
	client, grant, exchange := tink.Remint.Steps[0], tink.Remint.Steps[1], tink.Remint.Steps[2]
	if client.GrantType != oauth.GrantClientCredentials || *client.Params["scope"] != "authorization:grant" || client.Save["client_token"] != "access_token" {
		t.Errorf("tink's first step is %+v", client)
	}
	if grant.GrantType != "" || !strings.HasSuffix(grant.URL, "/api/v1/oauth/authorization-grant") || grant.Headers["Authorization"] != "Bearer {saved.client_token}" || grant.Save["code"] != "code" {
		t.Errorf("tink's second step is %+v", grant)
	}
	if redirect, set := exchange.Params["redirect_uri"]; exchange.GrantType != oauth.GrantAuthorizationCode || !set || redirect != nil || exchange.Save != nil {
		t.Errorf("tink's third step is %+v", exchange)
	}
	for host, fits := range map[string]bool{"api.tink.com": true, "api.us.tink.com": true, "api.tink.com.evil.example": false, "api.evil.tink.com": false, "": false} {
		if pattern, err := tink.Params["host"].compile(); err != nil || pattern.MatchString(host) != fits {
			t.Errorf("tink's host may be %q: %v", host, !fits)
		}
	}
	eventix, _ := c.Definition("eventix")
	if eventix.Token.Body != BodyJSON || eventix.Authorize.PKCE != "none" || eventix.RefreshToken.Rotation != RotationSingleUse || eventix.RefreshToken.ReplayWindow != 0 {
		t.Errorf("eventix is %+v", eventix)
	}
	if pattern, err := eventix.Params["company"].compile(); err != nil || !pattern.MatchString("") || !pattern.MatchString("6e26d618-354b-11eb-9322-acde48001122,6eac75a2-354b-11eb-9322-acde48001122") || pattern.MatchString("a") {
		t.Error("eventix's company may be something else")
	}
	flexiti, _ := c.Definition("flexiti")
	if flexiti.Grant != oauth.GrantClientCredentials || flexiti.Token.Headers["x-reference-id"] != "{uuid}" || !flexiti.RefreshToken.DiesWithAccessToken ||
		flexiti.AccessToken.RefreshAhead.String() != "1m" || flexiti.Remint.Steps[0].GrantType != oauth.GrantClientCredentials {
		t.Errorf("flexiti is %+v", flexiti)
	}
	for api, fits := range map[string]bool{"https://onlineapi.flexiti.fi/flexiti/online-api": true, "https://pos.uat.flexiti.fi/flexiti/pos-api/v2.5": true, "https://evil.example/flexiti/online-api": false, "http://onlineapi.flexiti.fi/flexiti/online-api": false} {
		if pattern, err := flexiti.Params["api"].compile(); err != nil || pattern.MatchString(api) != fits {
			t.Errorf("flexiti's api may be %q: %v", api, !fits)
		}
	}
}

func TestCatalogueOver(t *testing.T) {
	base := Builtin()
	c, err := base.Over(fstest.MapFS{
		"acme.yaml":  {Data: []byte("name: acme\ntoken_url: https://acme.example/token")},
		"mine.yaml":  {Data: []byte("name: tink\ntoken_url: https://tink.example/token")},
		"README.md":  {Data: []byte("# no definition")},
		"sub/x.yaml": {Data: []byte("wrong")},
		"d.yaml/x":   {Data: []byte("wrong")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if acme, ok := c.Definition("acme"); !ok || acme.TokenURL != "https://acme.example/token" {
		t.Errorf("acme is %+v", acme)
	}
	if tink, _ := c.Definition("tink"); tink.TokenURL != "https://tink.example/token" || tink.Remint.Steps != nil {
		t.Errorf("tink is %+v", tink)
	}
	if len(c.Names()) != len(base.Names())+1 {
		t.Errorf("the names are %v", c.Names())
	}
	if tink, _ := base.Definition("tink"); tink.TokenURL == "https://tink.example/token" {
		t.Error("the catalogue below has changed")
	}
	if same, err := base.Over(fstest.MapFS{}); err != nil || !slices.Equal(same.Names(), base.Names()) {
		t.Errorf("over nothing: %v", err)
	}
}

func TestCatalogueRefused(t *testing.T) {
	unreadable := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(unreadable, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		dir  fs.FS
		want string
	}{
		{"all problems of all files", fstest.MapFS{"a.yaml": {Data: []byte("nme: a")}, "b.yaml": {Data: []byte(plain + "grant: {}")}, "c.yaml": {Data: []byte(plain)}},
			"a.yaml:1: " + unknownKey + "\na.yaml:1: the definition has no name; add it\na.yaml:1: there is neither token_url nor issuer; add the one that the provider has\n" +
				"b.yaml:3: grant has the wrong type; write text; one that begins with { must be in quotes"},
		{"twice", fstest.MapFS{"a.yaml": {Data: []byte(plain)}, "b.yaml": {Data: []byte(plain)}}, "b.yaml: the name acme is that of the definition in a.yaml; rename one of them"},
		{"another ending", fstest.MapFS{"a.yml": {Data: []byte(plain)}}, "a.yml: definitions are in files that end in .yaml; rename it"},
		{"no directory", os.DirFS(filepath.Join(unreadable, "none")), ".: the directory of definitions cannot be read: no such file or directory"},
		{"no file", os.DirFS(unreadable), "a.yaml: cannot be read: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Builtin().Over(test.dir)
			if c != nil || err == nil || err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
			if _, ok := err.(Problems); !ok {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}
