package main

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestProxiedAddress(t *testing.T) {
	type headers = map[string][]string
	for _, test := range []struct {
		name    string
		headers headers
		want    string
	}{
		{"none", nil, "192.0.2.1"},
		{"one", headers{"X-Forwarded-For": {"203.0.113.7"}}, "203.0.113.7"},
		{"the last counts", headers{"X-Forwarded-For": {"1.1.1.1, 2.2.2.2 ,203.0.113.7"}}, "203.0.113.7"},
		{"the last header counts", headers{"X-Forwarded-For": {"1.1.1.1", "203.0.113.7"}}, "203.0.113.7"},
		{"port", headers{"X-Forwarded-For": {"203.0.113.7:4711"}}, "203.0.113.7"},
		{"IPv6", headers{"X-Forwarded-For": {"2001:db8::1"}}, "2001:db8::1"},
		{"IPv6 with port", headers{"X-Forwarded-For": {"[2001:db8::1]:4711"}}, "2001:db8::1"},
		{"IPv4 in IPv6", headers{"X-Forwarded-For": {"::ffff:203.0.113.7"}}, "203.0.113.7"},
		{"no address", headers{"X-Forwarded-For": {"203.0.113.7, unknown"}}, "192.0.2.1"},
		{"empty", headers{"X-Forwarded-For": {""}}, "192.0.2.1"},
		{"forwarded", headers{"Forwarded": {"for=203.0.113.7;proto=https;by=10.0.0.1"}}, "203.0.113.7"},
		{"forwarded, any case", headers{"Forwarded": {"Proto=https; For=203.0.113.7"}}, "203.0.113.7"},
		{"forwarded, the last counts", headers{"Forwarded": {"for=1.1.1.1, for=203.0.113.7;proto=http"}}, "203.0.113.7"},
		{"forwarded, the last header counts", headers{"Forwarded": {"for=1.1.1.1", `for="203.0.113.7:4711"`}}, "203.0.113.7"},
		{"forwarded, quoted", headers{"Forwarded": {`for="[2001:db8::1]:4711"`}}, "2001:db8::1"},
		{"forwarded, without port", headers{"Forwarded": {`for="[2001:db8::1]"`}}, "2001:db8::1"},
		{"forwarded, separators in quotes", headers{"Forwarded": {`for=203.0.113.7;host="a,b;for=1.1.1.1\"x"`}}, "203.0.113.7"},
		{"forwarded, last without for", headers{"Forwarded": {"for=203.0.113.7, proto=https"}}, "192.0.2.1"},
		{"forwarded, obfuscated", headers{"Forwarded": {"for=_hidden"}}, "192.0.2.1"},
		{"both: one is made up", headers{"X-Forwarded-For": {"1.1.1.1"}, "Forwarded": {"for=2.2.2.2"}}, "192.0.2.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: "192.0.2.1:1234", Header: http.Header(test.headers)}
			if got := proxiedAddress(r); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	if got := connectionAddress(&http.Request{RemoteAddr: "@"}); got != "@" {
		t.Errorf("a socket without a port: %s", got)
	}
}

// FuzzProxiedAddress looks for a header that ends the program or gives
// something that is no address.
func FuzzProxiedAddress(f *testing.F) {
	f.Add("203.0.113.7, [2001:db8::1]:80", "")
	f.Add("", `for="[::1]:80";by=_x,for=1.2.3.4`)
	f.Add("", `for="\",;";;,`)
	f.Fuzz(func(t *testing.T, forwardedFor, forwarded string) {
		header := http.Header{}
		if forwardedFor != "" {
			header.Add("X-Forwarded-For", forwardedFor)
		}
		if forwarded != "" {
			header.Add("Forwarded", forwarded)
		}
		got := proxiedAddress(&http.Request{RemoteAddr: "192.0.2.1:1234", Header: header})
		if _, err := netip.ParseAddr(got); err != nil {
			t.Errorf("%q is no address", got)
		}
	})
}
