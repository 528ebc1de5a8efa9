package provider

import (
	"strings"
	"testing"
)

// TestWhoChoosesHosts holds that whoever makes a connection cannot choose the
// host to which the client secret is sent; who registers the app can.
func TestWhoChoosesHosts(t *testing.T) {
	catalogue := Builtin()
	for name, evil := range map[string]map[string]string{
		"gitlab":         {"host": "attacker.example"},
		"fosoauthserver": {"server": "https://attacker.example"},
		"bshaffer":       {"server": "https://attacker.example/app"},
		"evergrant":      {"issuer": "https://attacker.example"},
	} {
		definition, ok := catalogue.Definition(name)
		if !ok {
			t.Fatalf("there is no definition %s", name)
		}
		for _, registered := range []map[string]string{nil, evil} {
			p, err := New(Config{Definition: definition, ClientID: "a", Params: registered, AllowPrivateNetworks: true})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.CheckParams(evil)
			if chosen := registered == nil; chosen != (err != nil && strings.Contains(err.Error(), "decides where secrets are sent")) {
				t.Errorf("%s, registered with %v: %v", name, registered, err)
			}
			// A row of an earlier version, or one written by hand, gains nothing.
			if host := p.TokenHost(evil); registered == nil && strings.Contains(host, "attacker") {
				t.Errorf("%s sends secrets to %s", name, host)
			}
		}
	}
	for _, name := range catalogue.Names() {
		definition, _ := catalogue.Definition(name)
		p, err := New(Config{Definition: definition, ClientID: "a", AllowPrivateNetworks: true})
		if err != nil {
			t.Fatal(err)
		}
		hostile := map[string]string{}
		for param := range definition.Params {
			for _, host := range foreignHosts {
				if p.patterns[param].MatchString(host) {
					hostile[param] = host
				}
			}
		}
		for _, url := range definition.urls() {
			host := p.values(Call{Params: hostile})
			if u, err := host.renderURL(url); err == nil && strings.HasPrefix(u.Host, "attacker.example") {
				t.Errorf("%s: a connection leads %s to %s", name, url, u.Host)
			}
		}
	}
}
