package column

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// stored are documents by their names.
func stored(t *testing.T, users ...issuer.User) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, u := range users {
		doc, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		docs[u.Username] = string(doc)
	}
	return docs
}

// from is a user as an import gives it.
func from(source, name, digest string) issuer.User {
	return issuer.User{
		Username: name, Password: secret.Verifier("v" + digest), Info: json.RawMessage(`{"n":1}`),
		Imported: issuer.Origin{Source: source, Digest: digest}, CreatedAt: moment, UpdatedAt: moment,
	}
}

func TestPuts(t *testing.T) {
	old := from("old", "ann", "d1")
	old.CreatedAt, old.UpdatedAt = moment.Add(-time.Hour), moment.Add(-time.Hour)
	changed := old
	changed.Imported = issuer.Origin{}
	replaced := from("old", "ann", "d2")
	replaced.CreatedAt = old.CreatedAt
	for _, tt := range []struct {
		name  string
		there []issuer.User
		batch []issuer.User
		puts  []issuer.User
		count issuer.ImportCount
	}{
		{"nothing", nil, nil, nil, issuer.ImportCount{}},
		{"new", nil, []issuer.User{from("old", "ann", "d1"), from("old", "bob", "d1")}, []issuer.User{from("old", "ann", "d1"), from("old", "bob", "d1")}, issuer.ImportCount{Created: 2}},
		{"as it was", []issuer.User{old}, []issuer.User{from("old", "ann", "d1")}, nil, issuer.ImportCount{Unchanged: 1}},
		{"changed there", []issuer.User{old}, []issuer.User{from("old", "ann", "d2")}, []issuer.User{replaced}, issuer.ImportCount{Updated: 1}},
		{"changed here", []issuer.User{changed}, []issuer.User{from("old", "ann", "d1")}, nil, issuer.ImportCount{Kept: []string{"ann"}}},
		{"changed there and here", []issuer.User{changed}, []issuer.User{from("old", "ann", "d2")}, nil, issuer.ImportCount{Kept: []string{"ann"}}},
		{"of another source", []issuer.User{old}, []issuer.User{from("older", "ann", "d1")}, nil, issuer.ImportCount{Kept: []string{"ann"}}},
		{"of no source, which is no origin", []issuer.User{changed}, []issuer.User{from("", "ann", "")}, nil, issuer.ImportCount{Kept: []string{"ann"}}},
		{"twice", nil, []issuer.User{from("old", "ann", "d1"), from("old", "ann", "d1")}, []issuer.User{from("old", "ann", "d1")}, issuer.ImportCount{Created: 1, Unchanged: 1}},
		{"twice, and differently", []issuer.User{old}, []issuer.User{from("old", "ann", "d3"), from("old", "bob", "d1"), from("old", "ann", "d2")},
			[]issuer.User{replaced, from("old", "bob", "d1")}, issuer.ImportCount{Created: 1, Updated: 2}},
	} {
		given := fmt.Sprintf("%+v", tt.batch)
		puts, count, err := Puts(UserRows(tt.batch), stored(t, tt.there...))
		if err != nil || !reflect.DeepEqual(count, tt.count) {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, count, err, tt.count)
		}
		var got []issuer.User
		for _, put := range puts {
			var u issuer.User
			if err := json.Unmarshal([]byte(put.Doc), &u); err != nil || put.Name != u.Username {
				t.Errorf("%s: %+v, %v", tt.name, put, err)
			}
			got = append(got, u)
		}
		if !reflect.DeepEqual(got, tt.puts) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.name, got, tt.puts)
		}
		if fmt.Sprintf("%+v", tt.batch) != given {
			t.Errorf("%s: the batch was changed", tt.name)
		}
	}
}

func TestPutsOfClients(t *testing.T) {
	batch := []issuer.Client{{ID: "shop", Name: "Shop", Imported: issuer.Origin{Source: "old", Digest: "d2"}, CreatedAt: moment}}
	puts, count, err := Puts(ClientRows(batch), map[string]string{"shop": `{"imported":{"source":"old","digest":"d1"},"created_at":"2020-01-01T00:00:00Z"}`})
	if err != nil || count.Updated != 1 || len(puts) != 1 || puts[0].Name != "shop" || !strings.Contains(puts[0].Doc, `"created_at":"2020-01-01T00:00:00Z"`) || !strings.Contains(puts[0].Doc, `"Shop"`) {
		t.Errorf("%+v, %+v, %v", puts, count, err)
	}
}

func TestPutsRefuse(t *testing.T) {
	bad := from("old", "ann", "d1")
	bad.Info = json.RawMessage("{")
	if puts, count, err := Puts(UserRows([]issuer.User{from("old", "bob", "d1"), bad}), nil); err == nil || !strings.Contains(err.Error(), `"ann" cannot be stored`) || puts != nil || count.Created != 0 {
		t.Errorf("%+v, %+v, %v", puts, count, err)
	}
	if puts, _, err := Puts(UserRows([]issuer.User{from("old", "ann", "d1")}), map[string]string{"ann": "{"}); err == nil || !strings.Contains(err.Error(), "damaged document") || puts != nil {
		t.Errorf("%+v, %v", puts, err)
	}
}

func TestWrote(t *testing.T) {
	some := issuer.ImportCount{Created: 1}
	for _, tt := range []struct {
		done issuer.Imported
		want bool
	}{
		{issuer.Imported{}, false}, {issuer.Imported{Clients: issuer.ImportCount{Unchanged: 1, Kept: []string{"a"}}, Grants: issuer.ImportCount{Unchanged: 7}}, false},
		{issuer.Imported{Clients: some}, true}, {issuer.Imported{Users: some}, true}, {issuer.Imported{Grants: some}, true},
		{issuer.Imported{Clients: issuer.ImportCount{Updated: 1}}, true}, {issuer.Imported{Users: issuer.ImportCount{Updated: 1}}, true},
	} {
		if got := Wrote(tt.done); got != tt.want {
			t.Errorf("%+v: %v", tt.done, got)
		}
	}
}

func TestRehash(t *testing.T) {
	c := issuer.Client{ID: "shop", Secrets: []secret.Verifier{"one", "two"}, Imported: issuer.Origin{Source: "old", Digest: "d1"}, UpdatedAt: moment}
	u := from("old", "ann", "1")
	clientDoc, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	userDoc := stored(t, u)["ann"]
	doc, err := RehashClient(string(clientDoc), "two", "new")
	var gotClient issuer.Client
	if err != nil || json.Unmarshal([]byte(doc), &gotClient) != nil {
		t.Fatal(doc, err)
	}
	if c.Secrets = []secret.Verifier{"one", "new"}; !reflect.DeepEqual(gotClient, c) {
		t.Errorf("got %+v, want %+v", gotClient, c)
	}
	doc, err = RehashUser(userDoc, "v1", "new")
	var gotUser issuer.User
	if err != nil || json.Unmarshal([]byte(doc), &gotUser) != nil {
		t.Fatal(doc, err)
	}
	if u.Password = "new"; !reflect.DeepEqual(gotUser, u) {
		t.Errorf("got %+v, want %+v", gotUser, u)
	}
	for name, rehash := range map[string]func(string, secret.Verifier, secret.Verifier) (string, error){
		string(clientDoc): RehashClient, userDoc: RehashUser,
	} {
		if doc, err := rehash(name, "other", "new"); doc != "" || err != nil {
			t.Errorf("of another verifier: %q, %v", doc, err)
		}
		if doc, err := rehash("{", "v1", "new"); doc != "" || err == nil || !strings.Contains(err.Error(), "damaged document") {
			t.Errorf("of a damaged document: %q, %v", doc, err)
		}
	}
}
