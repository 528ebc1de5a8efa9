package bench

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestSeed(t *testing.T) {
	n := 0
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		r.ParseForm()
		want := "client_id=c&grant_type=password&password=p%26w&scope=read&username=u"
		if got := r.PostForm.Encode(); got != want || r.URL.Path != "/oauth/token" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s", r.URL, got)
		}
		fmt.Fprintf(w, `{"access_token":"a%d","refresh_token":"r%d"}`, n, n)
	}))
	got, err := Seed(t.Context(), address, "c", "u", "p&w", 3)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[{a1 r1} {a2 r2} {a3 r3}]" {
		t.Errorf("%v", got)
	}
}

func TestSeedTellsWhatWentWrong(t *testing.T) {
	tests := []struct {
		name    string
		handler http.Handler
		want    string
	}{
		{"refused", answer(400, `{"error":"invalid_grant","refresh_token":"hidden"}`), "seeding: /oauth/token answered 400 invalid_grant"},
		{"failed", answer(500, `hidden`), "seeding: /oauth/token answered 500 "},
		{"no access token", answer(200, `{"refresh_token":"hidden"}`), "seeding: the answer has no access_token"},
		{"no refresh token", answer(200, `{"access_token":"hidden"}`), "seeding: the answer has no refresh_token"},
		{"no JSON", answer(200, `hidden`), "seeding: /oauth/token: invalid character"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Seed(t.Context(), serve(t, test.handler), "c", "u", "p", 1)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if _, err := Seed(t.Context(), "127.0.0.1:1", "c", "u", "p", 1); err == nil {
		t.Error("no error without a server")
	}
}

func TestRequestTokenAuthorizes(t *testing.T) {
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q}`, r.Header.Get("Authorization"))
	}))
	got, err := RequestToken(t.Context(), "http://"+address+"/oauth/token", "Basic YTpi", url.Values{"grant_type": {"client_credentials"}})
	if err != nil || got.Access != "Basic YTpi" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := RequestToken(t.Context(), "http://not an address", "", nil); err == nil {
		t.Error("no error for an address that is none")
	}
}

func TestReadStats(t *testing.T) {
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/v1/stats" || r.Header.Get("Authorization") != "Bearer admin" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"rows":{"grants":64,"events":2},"database_bytes":40960,"more":true}`)
	}))
	stats, err := ReadStats(t.Context(), address, "admin")
	if err != nil || stats.TotalRows() != 66 || stats.Bytes != 40960 {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, err := ReadStats(t.Context(), address, "nobody"); err == nil || err.Error() != "/v1/stats answered 401 " {
		t.Errorf("error %v", err)
	}
	if _, err := ReadStats(t.Context(), "not an address", "admin"); err == nil {
		t.Error("no error for an address that is none")
	}
}
