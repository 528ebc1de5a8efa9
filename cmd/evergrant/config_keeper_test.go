package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
)

// keeperSample is the keeper of the contract's example.
const keeperSample = `keeper:
  refresh_ahead: 10m
  definitions: %s
  allow_private_networks: false
  spool_dir: /var/spool/evergrant
  providers:
    - {name: tink, definition: tink, client_id: "${TINK_ID}", client_secret: "${TINK_SECRET}", scopes: ["accounts:read"]}
    - {name: acme, authorize_url: "https://acme.example/authorize", token_url: "https://acme.example/token", client_id: a, client_secret: b}
    - {name: corp, issuer: "https://login.corp.example", client_id: a, client_secrets: [new, old]}
    - {name: mine, client_id: a}
    - name: sandbox
      definition: google
      client_id: a
      token_url: https://${HOST}/token
      refresh_token: {lifetime: 7d, idle_lifetime: 7d}
      params: {region: {default: us}}
      api: {base_url: "https://{params.region}.sandbox.example"}
  webhooks:
    - {url: "https://app.example/hooks/T0KEN", secret: "${HOOK_SECRET}", events: ["connection.*", grant.reuse_detected]}
    - {name: other, url: "https://app.example/all", secret: a-long-enough-secret}
`

// definitions is a directory with one definition.
func definitions(t testing.TB, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const mine = "name: mine\ntoken_url: https://mine.example/token\nauthorize_url: https://mine.example/authorize\n"

func TestConfigKeeper(t *testing.T) {
	dir := definitions(t, "mine.yaml", mine)
	env := environment("TINK_ID", "id-of-tink", "TINK_SECRET", "hush-tink", "HOOK_SECRET", "hush-hook", "HOST", "sandbox.example")
	text := fmt.Sprintf(keeperSample, dir)
	c, wrong := load(t, text, overrides{}, env)
	if len(wrong) > 0 || len(c.warnings) > 0 {
		t.Fatalf("problems %q, warnings %v", wrong, c.warnings)
	}
	k := c.Keeper
	if k.RefreshAhead != issuer.Lifetime(10*time.Minute) || k.AllowPrivateNetworks || c.spoolDir() != "/var/spool/evergrant" {
		t.Errorf("keeper is %+v", k)
	}
	var names []string
	for i := range k.Providers {
		p := &k.Providers[i]
		names = append(names, p.Name+"="+p.definition.Name)
		made, err := provider.New(c.registration(p, "https://keeper.example"))
		if err != nil || made.Name() != p.Name {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if want := []string{"tink=tink", "acme=acme", "corp=corp", "mine=mine", "sandbox=google"}; !slices.Equal(names, want) {
		t.Errorf("providers %q, want %q", names, want)
	}
	tink, corp, sandbox := k.Providers[0], k.Providers[2], k.Providers[4]
	if tink.ClientID != "id-of-tink" || tink.ClientSecrets[0].Reveal() != "hush-tink" || tink.Scopes.String() != "accounts:read" {
		t.Errorf("tink is %+v", tink)
	}
	if len(corp.ClientSecrets) != 2 || corp.ClientSecrets[1].Reveal() != "old" || corp.definition.Issuer != "https://login.corp.example" {
		t.Errorf("corp is %+v", corp)
	}
	if d := sandbox.definition; d.TokenURL != "https://sandbox.example/token" || d.RefreshToken.Lifetime.String() != "7d" || d.AuthorizeURL == "" ||
		d.Params["region"].Default != "us" || len(sandbox.Params) != 0 {
		t.Errorf("sandbox is %+v, with params %v", d, sandbox.Params)
	}
	if got := c.registration(&tink, "https://keeper.example").RedirectURI; got != "https://keeper.example/connect/callback" {
		t.Errorf("redirect URI %s", got)
	}
	first, second := k.Webhooks[0], k.Webhooks[1]
	if first.Name != "app.example" || first.Secret.Reveal() != "hush-hook" || !slices.Equal(first.Events, []string{"connection.*", "grant.reuse_detected"}) ||
		second.Name != "other" || !slices.Equal(second.Events, []string{"*"}) {
		t.Errorf("webhooks are %+v", k.Webhooks)
	}
}

func TestConfigKeeperDefaults(t *testing.T) {
	for _, text := range []string{"", "keeper:\n", "keeper: {}\n", "keeper:\n  providers:\n  webhooks:\n"} {
		c, wrong := load(t, "data_dir: /data\n"+text, overrides{}, environment())
		if len(wrong) > 0 || c.Keeper.RefreshAhead != issuer.Lifetime(5*time.Minute) || c.spoolDir() != "/data/spool" {
			t.Errorf("%q: problems %q, keeper %+v", text, wrong, c.Keeper)
		}
	}
}

// TestConfigKeeperParams has both things that are called params.
func TestConfigKeeperParams(t *testing.T) {
	dir := definitions(t, "shops.yaml", "name: shops\nparams: {shop: {}, path: {default: token}}\n"+
		"token_url: https://{params.shop}.shops.example/{params.path}\nauthorize_url: https://{params.shop}.shops.example/authorize\n")
	const text = `keeper:
  definitions: %s
  providers:
    - name: shops
      client_id: a
      params:
        shop: ${SHOP}
        path: {title: Path, pattern: "[a-z${LETTER}]+"}
`
	c, wrong := load(t, fmt.Sprintf(text, dir), overrides{}, environment("SHOP", "bakery", "LETTER", "-"))
	if len(wrong) > 0 {
		t.Fatalf("problems %q", wrong)
	}
	p := c.Keeper.Providers[0]
	if path := p.definition.Params["path"]; len(p.Params) != 1 || p.Params["shop"] != "bakery" || path.Pattern != "[a-z-]+" || path.Default != "token" {
		t.Errorf("params %v, of the definition %v", p.Params, p.definition.Params)
	}
}

// acme is a registration that is good but for one line.
func acme(lines ...string) string {
	all := append([]string{"keeper:\n  providers:\n    - name: acme", "client_id: a"}, lines...)
	return strings.Join(all, "\n      ")
}

// TestConfigKeeperRefused has each thing that is refused with its line, what is
// wrong and what to do. The messages of package provider are its own.
func TestConfigKeeperRefused(t *testing.T) {
	const urls = "token_url: https://acme.example/token\n      authorize_url: https://acme.example/authorize"
	const hooks = "keeper:\n  webhooks:\n    - "
	const mend = "; write an https URL of a public host, or set keeper.allow_private_networks: true for tests and providers in your own network"
	for _, test := range []struct {
		name, text string
		want       []string // beginnings
	}{
		{"unknown key", "keeper: {refresh: 5m}", []string{`FILE:1: unknown key "refresh" in keeper; known keys here are allow_private_networks, definitions, providers, refresh_ahead, spool_dir, webhooks`}},
		{"refresh_ahead", "keeper: {refresh_ahead: 0}", []string{"FILE:1: refresh_ahead must be above 0; write a duration such as 5m"}},
		{"refresh_ahead that is none", "keeper: {refresh_ahead: soon}", []string{`FILE:1: refresh_ahead: "soon" is not a duration`}},
		{"private networks", "keeper: {allow_private_networks: maybe}", []string{`FILE:1: allow_private_networks: "maybe" is not true or false`}},
		{"no directory", "keeper:\n  definitions: /nowhere/at/all", []string{"FILE:2: definitions names no directory: stat /nowhere/at/all: no such file or directory; name one with *.yaml files, or delete the key"}},
		{"empty directory name", "keeper: {definitions: ''}", []string{"FILE:1: keeper.definitions is empty; give it a value or delete the key"}},
		{"providers that are none", "keeper: {providers: acme}", []string{"FILE:1: keeper.providers has the wrong type; write a list"}},
		{"provider that is none", "keeper:\n  providers:\n    - acme", []string{"FILE:3: a provider has the wrong type; write keys and values", "FILE:3: a provider has no name; add one, under which connections find it"}},

		{"no name", "keeper:\n  providers:\n    - client_id: a", []string{"FILE:3: a provider has no name; add one, under which connections find it"}},
		{"no client_id", "keeper:\n  providers:\n    - {name: google}", []string{"FILE:3: provider google has no client_id; add the one that the provider gave you when you registered your app"}},
		{"two names", "keeper:\n  providers:\n    - {name: google, client_id: a}\n    - {name: google, client_id: b}", []string{"FILE:4: provider google is registered twice, first at FILE:3; give each a name of its own"}},
		{"unknown definition", acme("definition: gogle"), []string{"FILE:5: there is no definition gogle, did you mean google?; `evergrant provider catalogue` lists them, or delete the key"}},
		{"unknown name", strings.Replace(acme(), "acme", "git-lab", 1), []string{"FILE:3: the catalogue has no definition git-lab, did you mean gitlab?; name one with definition, or give issuer, or token_url and authorize_url"}},
		{"unknown name, nothing close", acme(), []string{"FILE:3: the catalogue has no definition acme; name one with definition"}},
		{"unknown key of a provider", acme("client_secrt: b", urls), []string{`FILE:5: unknown key "client_secrt" in a provider, did you mean client_secret or client_secrets?; known keys here are access_token, api, `}},
		{"two kinds of secrets", acme("client_secret: b", "client_secrets: [c]", urls), []string{"FILE:6: provider acme has client_secret and client_secrets; keep one"}},
		{"empty secret", acme("client_secret: ''", urls), []string{"FILE:5: the client_secret of provider acme is empty; give it a value, or delete the key for a public client"}},
		{"empty secret in a list", acme("client_secrets:", "  - one", "  - ''", urls), []string{"FILE:7: the client_secret of provider acme is empty"}},
		{"secret in an empty variable", acme("client_secret: ${EMPTY}", urls), []string{"FILE:5: keeper.providers[0].client_secret is empty because ${EMPTY} is"}},
		{"secret with a line break", acme("client_secret: \"hush\\nhush\"", urls), []string{"FILE:5: keeper.providers[0].client_secret contains a line break"}},
		{"scope", acme("scopes: ['a b']", urls), []string{`FILE:5: "a b" is not one scope`}},
		{"unset variable in a definition", acme("token_url: https://${NOT_SET}/"), []string{"FILE:5: keeper.providers[0].token_url takes the environment variable NOT_SET, which is not set"}},
		{"wrong type in a definition", acme(urls, "refresh_token: 7d"), []string{"FILE:7: refresh_token has the wrong type"}},
		{"bad value in a definition", acme(urls, "refresh_token:", "  rotation: sometimes"), []string{"FILE:8: refresh_token.rotation "}},
		{"bad value in a variable", acme(urls, "refresh_token:", "  rotation: ${HUSH}"), []string{"FILE:8: the value of ${HUSH} is not valid; mend the variable"}},
		{"param that nobody uses", acme(urls, "params: {hush: hush}"), []string{"FILE:3: provider acme: its definition has no param hush"}},
		{"http", acme("token_url: http://acme.example/token", "authorize_url: https://acme.example/authorize"), []string{
			"FILE:5: token_url of provider acme is http, which would send secrets and tokens in clear" + mend}},
		{"loopback", acme("token_url: https://127.0.0.1:1/token", "authorize_url: https://localhost/"), []string{
			"FILE:6: authorize_url of provider acme points into a private network (localhost)" + mend,
			"FILE:5: token_url of provider acme points into a private network (127.0.0.1)" + mend}},
		{"private address of the API", acme(urls, "api: {base_url: \"https://[::ffff:10.0.0.1]/\"}"), []string{"FILE:7: api.base_url of provider acme points into a private network (::ffff:10.0.0.1)" + mend}},
		{"http in a step", acme(urls, "remint:", "  steps:", "    - {url: \"http://{params.x}.acme.example/\"}", "params: {x: {}}"), []string{"FILE:7: remint.steps[0].url of provider acme is http"}},

		{"webhook without url", hooks + "{secret: a-long-enough-secret}", []string{"FILE:3: a webhook has no url; add the one that is to be told of events"}},
		{"webhook with empty url", hooks + "{url: '', secret: a-long-enough-secret}", []string{"FILE:3: keeper.webhooks[0].url is empty"}},
		{"webhook without secret", hooks + "{url: \"https://app.example/\"}", []string{"FILE:3: webhook app.example has no secret, by which its receiver knows that an event is from here; add one"}},
		{"webhook with empty secret", hooks + "{url: \"https://app.example/\", secret: ''}", []string{"FILE:3: the secret of webhook app.example is empty; give it a value, or delete the webhook"}},
		{"webhook with bad url", hooks + "{url: \"app.example/hush\", secret: a-long-enough-secret}", []string{"FILE:3: url of a webhook must be an https URL without user and fragment; write for example https://app.example.com/hooks"}},
		{"webhook with user", hooks + "{url: \"https://hush:hush@app.example/\", secret: a-long-enough-secret}", []string{"FILE:3: url of a webhook must be an https URL without user"}},
		{"webhook in clear", hooks + "{url: \"http://app.example/hush\", secret: a-long-enough-secret}", []string{
			"FILE:3: url of a webhook is http or points into a private network; write an https URL of a public host, or set keeper.allow_private_networks: true"}},
		{"webhook in this network", hooks + "{url: \"https://192.168.0.1/\", secret: a-long-enough-secret}", []string{"FILE:3: url of a webhook is http or points into a private network"}},
		{"webhooks with one name", hooks + "{url: \"https://app.example/a\", secret: a-long-enough-secret}\n    - {url: \"https://app.example/b\", secret: a-long-enough-secret}", []string{
			"FILE:4: webhook app.example is there twice, first at FILE:3; give each a name of its own"}},
		{"unknown event", hooks + "{url: \"https://app.example/\", secret: a-long-enough-secret, events: [connection.refreshd]}", []string{
			`FILE:3: there are no events "connection.refreshd", did you mean connection.refreshed?; change or delete it`}},
		{"unknown family", hooks + "{url: \"https://app.example/\", secret: a-long-enough-secret, events: [\"conection.*\", \"conn*\"]}", []string{
			`FILE:3: there are no events "conection.*", did you mean connection.*?`, `FILE:3: there are no events "conn*"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, test.text, overrides{}, environment("EMPTY", "", "HUSH", "hush"))
			same := len(wrong) == len(test.want)
			for i := range min(len(wrong), len(test.want)) {
				same = same && strings.HasPrefix(wrong[i], test.want[i])
			}
			if !same {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(wrong, "\n"), strings.Join(test.want, "\n"))
			}
			shown := strings.ReplaceAll(fmt.Sprintf("%v %+v %v", wrong, c, c.warnings), "param hush", "")
			if test.name != "param that nobody uses" && strings.Contains(shown, "hush") && !strings.Contains(test.text, "webhook") {
				t.Errorf("a secret is shown: %s", shown)
			}
		})
	}
}

// TestConfigDefinitionsRefused has the lines of the files of a directory.
func TestConfigDefinitionsRefused(t *testing.T) {
	dir := definitions(t, "bad.yaml", "name: bad\ntoken_url: https://a.example/token\ncolour: red\n")
	_, wrong := load(t, "keeper: {definitions: "+dir+"}", overrides{}, environment())
	if len(wrong) == 0 || !strings.HasPrefix(wrong[0], filepath.Join(dir, "bad.yaml")+`:3: unknown key "colour"`) {
		t.Errorf("problems %q", wrong)
	}
	file := filepath.Join(dir, "bad.yaml")
	if _, wrong = load(t, "keeper: {definitions: "+file+"}", overrides{}, environment()); len(wrong) != 1 || !strings.Contains(wrong[0], "names no directory: it is a file") {
		t.Errorf("problems %q", wrong)
	}
}

func TestConfigKeeperWarnings(t *testing.T) {
	const private = "keeper:\n  allow_private_networks: true\n  providers:\n    - name: acme\n      client_id: a\n      authorize_url: http://localhost/authorize\n      token_url: "
	for _, test := range []struct{ name, text, want string }{
		{"http to this machine", private + "http://127.0.0.1:1/token", ""},
		{"http beyond it", private + "http://acme.example/token", "FILE:7: token_url of provider acme is http: secrets and tokens cross the network in clear"},
		{"short secret", "keeper: {webhooks: [{url: \"https://app.example/\", secret: abc}]}", "FILE:1: the secret of webhook app.example has fewer than 8 characters; it will be refused once the server listens beyond loopback"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.text)
			c, err := loadConfig(path, overrides{}, environment())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(c.warnings.Error(), path, "FILE"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	c, wrong := load(t, "public_url: https://x.example\nbehind_proxy: true\nkeeper: {webhooks: [{url: \"https://app.example/\", secret: abc}]}", overrides{}, environment())
	if len(wrong) != 1 || !strings.Contains(wrong[0], "the secret of webhook app.example has fewer than 8 characters, which can be guessed") {
		t.Errorf("problems %q of %+v", wrong, c)
	}
}

// TestConfigKeeperInClear has secrets of the keeper in a file that all can read.
func TestConfigKeeperInClear(t *testing.T) {
	for text, warned := range map[string]bool{
		acme("token_url: https://a.example/", "authorize_url: https://a.example/", "client_secret: hush-hush"):            true,
		acme("token_url: https://a.example/", "authorize_url: https://a.example/", "client_secrets: [\"${HUSH}\", hush]"): true,
		acme("token_url: https://a.example/", "authorize_url: https://a.example/", "client_secret: ${HUSH}"):              false,
		"keeper: {webhooks: [{url: \"https://a.example\", secret: hush-hush}]}":                                           true,
	} {
		path := writeConfig(t, text)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(path, overrides{}, environment("HUSH", "hush-hush"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.warnings.Error(), "chmod o-r") != warned {
			t.Errorf("%s\nwarnings %v, want one: %v", text, c.warnings, warned)
		}
	}
}

// TestConfigKeeperShowsNoSecret prints a configuration in every way that code
// does.
func TestConfigKeeperShowsNoSecret(t *testing.T) {
	env := environment("TINK_ID", "id-of-tink", "TINK_SECRET", "hush-tink", "HOOK_SECRET", "hush-hook", "HOST", "sandbox.example")
	text := fmt.Sprintf(keeperSample, definitions(t, "mine.yaml", mine))
	path := writeConfig(t, text)
	r := run(t, env, "", "config", "check", "--config", path)
	if r.code != exitDone || !strings.Contains(r.out, "providers                    5 (tink, acme, corp, mine, sandbox: google)\n") ||
		!strings.Contains(r.out, "webhooks                     2 (app.example: connection.* grant.reuse_detected, other: *)\n") ||
		!strings.Contains(r.out, "spool directory              /var/spool/evergrant\n") || !strings.Contains(r.out, "refresh_ahead                10m\n") {
		t.Errorf("status %d\n%s%s", r.code, r.out, r.stderr)
	}
	asJSON := run(t, env, "", "config", "check", "--config", path, "--json")
	checked := document[struct {
		OK       bool
		Settings config
	}](t, asJSON.out)
	if !checked.OK || len(checked.Settings.Keeper.Providers) != 5 || checked.Settings.Keeper.Providers[0].ClientID != "id-of-tink" || len(checked.Settings.Keeper.Webhooks) != 2 {
		t.Errorf("settings %+v", checked.Settings.Keeper)
	}
	c, wrong := load(t, text, overrides{}, env)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{r.out, r.stderr, asJSON.out, string(encoded), strings.ReplaceAll(fmt.Sprintf("%v %+v", c, c), "hooks/T0KEN", "")} {
		for _, hidden := range []string{"hush", "a-long-enough-secret", "T0KEN"} {
			if strings.Contains(shown, hidden) {
				t.Errorf("a secret is shown: %s", shown)
			}
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"github", "gitlab", "google", "x", "stripe-app", "stripe-connect"}
	for word, want := range map[string]string{
		"githab": ", did you mean github or gitlab?", "stripe": ", did you mean stripe-app or stripe-connect?", "gogle": ", did you mean google?",
		"salesforce": "", "google-ads": ", did you mean google?", "spotify": "",
	} {
		if got := didYouMean(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
	for pair, want := range map[[2]string]int{{"", ""}: 0, {"a", ""}: 1, {"", "abc"}: 3, {"kitten", "sitting"}: 3, {"flaw", "lawn"}: 2, {"same", "same"}: 0} {
		if got := distance(pair[0], pair[1]); got != want {
			t.Errorf("from %q to %q: %d, want %d", pair[0], pair[1], got, want)
		}
	}
}

func TestEventTypes(t *testing.T) {
	all := eventTypes()
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("an event stands there twice: %q", all)
	}
	for _, pattern := range []string{"*", "connection.*", "key.*", keeper.EventReauthorize, issuer.EventReuseDetected} {
		if err := knownEvents(pattern); err != nil {
			t.Error(err)
		}
	}
	for _, pattern := range []string{"", ".*", "connection", "connection.", "connection*", "**", "x.*"} {
		if err := knownEvents(pattern); err == nil {
			t.Errorf("%q is taken for a pattern of events", pattern)
		}
	}
}
