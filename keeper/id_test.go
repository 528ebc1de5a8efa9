package keeper_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/keeper"
)

func TestValidID(t *testing.T) {
	for id, valid := range map[string]bool{
		"a": true, "Shop-1_b.c~d": true, "0": true, "...": true, strings.Repeat("x", 128): true, "-": true, "~": true,
		"": false, strings.Repeat("x", 129): false, ".": false, "..": false, "a b": false, "a/b": false, "a%2fb": false, "é": false, "a\n": false, "a\x00": false,
		"a+b": false, "a:b": false, "a@b": false, "\xff": false, "٣": false, "a?b": false, "a#b": false,
	} {
		if got := keeper.ValidID(id); got != valid {
			t.Errorf("%q is valid: %v, want %v", id, got, valid)
		}
	}
}

func TestNewID(t *testing.T) {
	form, seen := regexp.MustCompile(`^conn_[a-z2-7]{26}$`), map[string]bool{}
	for range 1000 {
		id := keeper.NewID()
		if !form.MatchString(id) || !keeper.ValidID(id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

// FuzzValidID: a valid id stands in a path as it is.
func FuzzValidID(f *testing.F) {
	for _, id := range []string{"conn_x", ".", "..", "a/../b", "%2e", "a b", "é"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if !keeper.ValidID(id) {
			return
		}
		u, err := url.Parse("https://host/v1/connections/" + id)
		if err != nil || u.JoinPath("token").Path != "/v1/connections/"+id+"/token" || url.PathEscape(id) != id {
			t.Errorf("%q does not stand in a path: %v", id, err)
		}
	})
}
