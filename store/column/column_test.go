package column

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

var moment = time.Date(2031, 2, 3, 4, 5, 6, 789e6, time.UTC)

func TestTimes(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	for _, tt := range []struct{ in, out time.Time }{
		{time.Time{}, time.Time{}},
		{moment, moment},
		{moment.Add(999 * time.Microsecond), moment},
		{moment.In(berlin), moment},
	} {
		if got := Stored(tt.in); got != tt.out {
			t.Errorf("%v comes back as %v", tt.in, got)
		}
	}
	if ms := Millis(time.Time{}); ms != 0 {
		t.Errorf("the zero time is stored as %d", ms)
	}
}

func TestScope(t *testing.T) {
	for _, scope := range []oauth.Scope{nil, {"read"}, {"read", "write"}} {
		if got := Scope(scope.String()); !reflect.DeepEqual(got, scope) {
			t.Errorf("%q comes back as %q", scope, got)
		}
	}
}

func TestDocuments(t *testing.T) {
	text, err := Document(map[string]any{"realm": 9007199254740993, "list": []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadDocument[any](text)
	if err != nil || m["realm"] != json.Number("9007199254740993") || len(m) != 2 {
		t.Errorf("%s comes back as %v, %v", text, m, err)
	}
	if text, err := Document[string](nil); text != "" || err != nil {
		t.Errorf("no map is stored as %q, %v", text, err)
	}
	if m, err := ReadDocument[string](""); m != nil || err != nil {
		t.Errorf("nothing comes back as %v, %v", m, err)
	}
	if _, err := ReadDocument[string](`{"a":`); err == nil {
		t.Error("a damaged document is read")
	}
	if _, err := Document(map[string]any{"c": make(chan int)}); err == nil {
		t.Error("a channel is stored")
	}
}

func TestSealed(t *testing.T) {
	if key, data := Sealed(secret.Sealed{}); key != 0 || data != nil {
		t.Errorf("nothing is stored as %d, %v", key, data)
	}
	if key, data := Sealed(secret.Sealed{KeyID: 3, Data: []byte("x")}); key != 3 || !reflect.DeepEqual(data, []byte("x")) {
		t.Errorf("got %d, %v", key, data)
	}
}

func TestCapped(t *testing.T) {
	for limit, want := range map[int]int{-1: 100, 0: 100, 1: 1, 1000: 1000, 1001: 1000} {
		if got := Capped(limit); got != want {
			t.Errorf("%d gives %d rows, want %d", limit, got, want)
		}
	}
}

func TestRotates(t *testing.T) {
	grant := issuer.Grant{ClientID: "shop", Generation: 3, ExpiresAt: moment.Add(time.Second), EndsAt: moment.Add(time.Hour)}
	rotation := issuer.Rotation{ClientID: "shop", From: 3, To: 4, KeyID: 9, At: moment, ExpiresAt: moment.Add(2 * time.Hour), AccessExpiresAt: moment.Add(time.Minute)}
	for name, tt := range map[string]struct {
		change func(*issuer.Grant)
		want   bool
	}{
		"live":                        {func(*issuer.Grant) {}, true},
		"it never expires":            {func(g *issuer.Grant) { g.ExpiresAt, g.EndsAt = time.Time{}, time.Time{} }, true},
		"another client's":            {func(g *issuer.Grant) { g.ClientID = "other" }, false},
		"another generation":          {func(g *issuer.Grant) { g.Generation = 4 }, false},
		"revoked":                     {func(g *issuer.Grant) { g.RevokedAt = moment }, false},
		"expired now":                 {func(g *issuer.Grant) { g.ExpiresAt = moment }, false},
		"expired in this millisecond": {func(g *issuer.Grant) { g.ExpiresAt = moment.Add(time.Microsecond) }, false},
		"ended":                       {func(g *issuer.Grant) { g.EndsAt = moment.Add(-time.Second) }, false},
	} {
		g := grant
		tt.change(&g)
		if got := Rotates(g, rotation); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	got := Rotated(grant, rotation)
	if got.Generation != 4 || got.KeyID != 9 || got.RotatedAt != moment || got.ExpiresAt != grant.EndsAt || got.AccessExpiresAt != moment.Add(time.Minute) {
		t.Errorf("afterwards: %+v", got)
	}
	if got.Scope != nil {
		t.Errorf("a scope came out of nothing: %q", got.Scope)
	}
	grant.Scope = oauth.Scope{"read", "write"}
	for _, tt := range []struct{ scope, want oauth.Scope }{
		{nil, grant.Scope}, {oauth.Scope{"write"}, oauth.Scope{"write"}}, {oauth.Scope{}, nil},
	} {
		rotation.Scope = tt.scope
		if got := Rotated(grant, rotation); !reflect.DeepEqual(got.Scope, tt.want) {
			t.Errorf("narrowed to %q: %q", tt.scope, got.Scope)
		}
	}
	rotation.ExpiresAt = time.Time{}
	if got := Rotated(grant, rotation); got.ExpiresAt != grant.EndsAt {
		t.Errorf("a grant without idle expiry expires at %v", got.ExpiresAt)
	}
}

func TestPurgeHour(t *testing.T) {
	hour := UnixHour(moment)
	for name, tt := range map[string]struct {
		grant issuer.Grant
		want  int64
	}{
		"never":                     {issuer.Grant{}, hour + neverHours},
		"idle":                      {issuer.Grant{ExpiresAt: moment.Add(2 * time.Hour)}, hour + 2},
		"absolute":                  {issuer.Grant{EndsAt: moment.Add(3 * time.Hour)}, hour + 3},
		"the earlier":               {issuer.Grant{ExpiresAt: moment.Add(4 * time.Hour), EndsAt: moment.Add(3 * time.Hour)}, hour + 3},
		"the access token is later": {issuer.Grant{ExpiresAt: moment, AccessExpiresAt: moment.Add(5 * time.Hour)}, hour + 5},
	} {
		if got := PurgeHour(tt.grant, moment); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestUnavailable(t *testing.T) {
	one, two, cause := errors.New("one"), errors.New("two"), errors.New("the disk is full")
	err := Unavailable(cause, one, two)
	for _, target := range []error{one, two, cause} {
		if !errors.Is(err, target) {
			t.Errorf("it is not %v", target)
		}
	}
	if err.Error() != "the database is unavailable: the disk is full" {
		t.Error(err)
	}
}
