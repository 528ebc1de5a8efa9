package column

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/secret"
)

// Row is a client or user of an import.
type Row struct {
	Name    string
	origin  issuer.Origin
	created *time.Time // of value
	value   any
}

// ClientRows are the clients of a batch.
func ClientRows(batch []issuer.Client) []Row {
	rows := make([]Row, len(batch))
	for i, c := range batch {
		rows[i] = Row{c.ID, c.Imported, &c.CreatedAt, &c}
	}
	return rows
}

// UserRows are the users of a batch.
func UserRows(batch []issuer.User) []Row {
	rows := make([]Row, len(batch))
	for i, u := range batch {
		rows[i] = Row{u.Username, u.Imported, &u.CreatedAt, &u}
	}
	return rows
}

// Put is a document as an import writes it.
type Put struct{ Name, Doc string }

// Puts says what of a batch is to be written, where stored are the documents that
// there are of these names, and counts what becomes of all ([issuer.Importer]).
func Puts(batch []Row, stored map[string]string) (puts []Put, count issuer.ImportCount, err error) {
	places := map[string]int{} // in puts: a batch may have a name twice
	for _, d := range batch {
		place, again := places[d.Name]
		doc, there := stored[d.Name]
		if again {
			doc, there = puts[place].Doc, true
		}
		var was struct {
			Imported  issuer.Origin `json:"imported"`
			CreatedAt time.Time     `json:"created_at"`
		}
		if there {
			if err := read(doc, &was); err != nil {
				return nil, issuer.ImportCount{}, err
			}
		}
		switch {
		case !there:
			count.Created++
		case was.Imported.Source == "" || was.Imported.Source != d.origin.Source:
			count.Kept = append(count.Kept, d.Name)
			continue
		case was.Imported == d.origin:
			count.Unchanged++
			continue
		default:
			*d.created = was.CreatedAt
			count.Updated++
		}
		if doc, err = write(d.Name, d.value); err != nil {
			return nil, issuer.ImportCount{}, err
		}
		if again {
			puts[place].Doc = doc
			continue
		}
		places[d.Name] = len(puts)
		puts = append(puts, Put{d.Name, doc})
	}
	return puts, count, nil
}

// Wrote reports whether an import has created or replaced anything.
func Wrote(done issuer.Imported) bool {
	return done.Clients.Created+done.Clients.Updated+done.Users.Created+done.Users.Updated+done.Grants.Created > 0
}

// RehashClient is a client's document with a verifier in the place of another
// one, or "" where that is not there. Nobody has changed the client by it: to an
// import it is as it was.
func RehashClient(doc string, old, verifier secret.Verifier) (string, error) {
	var c issuer.Client
	if err := read(doc, &c); err != nil {
		return "", err
	}
	place := slices.Index(c.Secrets, old)
	if place < 0 {
		return "", nil
	}
	c.Secrets[place] = verifier
	return write(c.ID, c)
}

// RehashUser is the same of a user's document and password.
func RehashUser(doc string, old, verifier secret.Verifier) (string, error) {
	var u issuer.User
	if err := read(doc, &u); err != nil || u.Password != old {
		return "", err
	}
	u.Password = verifier
	return write(u.Username, u)
}

func read(doc string, into any) error {
	if err := json.Unmarshal([]byte(doc), into); err != nil {
		return fmt.Errorf("damaged document: %w", err)
	}
	return nil
}

func write(name string, value any) (string, error) {
	doc, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("%q cannot be stored: %w", name, err)
	}
	return string(doc), nil
}
