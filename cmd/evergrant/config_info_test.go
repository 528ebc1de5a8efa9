package main

import (
	"testing"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

func TestConfigInfo(t *testing.T) {
	const users = "issuer:\n  users:\n    - username: a\n      password: a-long-password\n      info: "
	for _, test := range []struct{ name, text, want string }{
		{"none", "", ""},
		{"nothing in it", "{}", "{}"},
		{"order", "{z: 1, a: 2, m: {y: 1, b: 2}}", `{"z":1,"a":2,"m":{"y":1,"b":2}}`},
		{"below one another", "\n        name: Ann\n        companies:\n          - guid: x\n          - guid: y\n", `{"name":"Ann","companies":[{"guid":"x"},{"guid":"y"}]}`},
		{"one member", "\n        name: Ann\n", `{"name":"Ann"}`},
		{"kinds", `{a: text, b: "1", c: true, d: false, e: null, f: [], g: [[1], {}], h: ~}`, `{"a":"text","b":"1","c":true,"d":false,"e":null,"f":[],"g":[[1],{}],"h":null}`},
		{"numbers", "{a: 0, b: -7, c: 1.50, d: 1.5e+3, e: 0x10, f: 12345678901234567890, g: 0o17}", `{"a":0,"b":-7,"c":1.50,"d":1.5e+3,"e":16,"f":12345678901234567890,"g":15}`},
		{"variables", `{a: "${NAME}", b: "$${NAME}", c: "x${NAME}y"}`, `{"a":"q\"<&>","b":"${NAME}","c":"xq\"<&>y"}`},
		{"keys are no variables", `{"${NAME}": 1}`, `{"${NAME}":1}`},
		{"several lines", "{a: \"x\\ny\"}", `{"a":"x\ny"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, users+test.text, overrides{}, environment("NAME", `q"<&>`))
			if len(wrong) > 0 || string(c.Issuer.Users[0].Info) != test.want {
				t.Errorf("problems %q, info %s, want %s", wrong, c.Issuer.Users[0].Info, test.want)
			}
			if err := (issuer.User{Username: "a", Password: secret.Slow(), Info: c.Issuer.Users[0].Info}).Check(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, test := range []struct{ name, text, want string }{
		{"a list", "[a]", "FILE:5: issuer.users[0].info has the wrong type; write keys and values, such as `key: value`"},
		{"a text", "'{}'", "FILE:5: issuer.users[0].info has the wrong type; write keys and values, such as `key: value`"},
		{"twice", "{a: 1, a: 2}", "FILE:5: a is set twice, first at FILE:5; keep one"},
		{"variable that is not set", "{a: '${NOT_SET}'}", "FILE:5: issuer.users[0].info.a takes the environment variable NOT_SET, which is not set; set it, or write the value here"},
		{"no number", "{a: .inf}", "FILE:5: issuer.users[0].info.a has the wrong type; write text, a number, true, false, null, a list or keys and values"},
		{"tag", "{a: !!binary YQ==}", "FILE:5: issuer.users[0].info.a uses a YAML anchor, alias or tag, which the configuration does not know; write the value out"},
		{"key that is no text", "{1: a}", "FILE:5: this key in info is not plain text; write it as a word, without anchors, << or ?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, wrong := load(t, users+test.text, overrides{}, environment())
			if len(wrong) != 1 || wrong[0] != test.want || c.Issuer.Users[0].Info != nil {
				t.Errorf("got %q, want %q; info %s", wrong, test.want, c.Issuer.Users[0].Info)
			}
		})
	}
}
