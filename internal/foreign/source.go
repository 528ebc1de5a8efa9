// Package foreign reads the databases of other authorization servers: clients,
// users with what verifies their passwords, and live tokens. It reads in one
// transaction that changes nothing, so that the other server can go on meanwhile.
package foreign

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/evergrant/evergrant"
)

// Options say what the address of a database does not.
type Options struct {
	Kind string // one of Kinds; found by the tables that are there where it is ""
	// Tables names the tables by their role (client, access_token, refresh_token,
	// user, scope), where a server has others than usual; "" for a role that is not
	// to be read.
	Tables map[string]string
	// Location is where the times of bshaffer's tables are meant, which have no
	// zone: PHP's date.timezone. UTC where it is nil.
	Location *time.Location
	// Iterations are those of Symfony's message digest, where security.yml says
	// another number than 5,000.
	Iterations int
	// HexTokens says that doorkeeper's tokens and secrets of 64 hexadecimal digits
	// are clear (default_generator_method :hex), and not SHA-256 of what is.
	HexTokens bool
	Now       func() time.Time // time.Now where it is nil
}

// Source is the database of another server, as it was at one moment. Its methods
// are called one after another, and a sequence is left before the next begins.
type Source struct {
	place   *place
	conn    *sql.Conn
	options Options
	kind    kind
	plan    plan
	now     time.Time
	expired int64
}

// RowError says that a row cannot be used. The sequence goes on after it.
type RowError struct {
	Kind   string // client, user or token
	Name   string // its id or name; of a token its client and user
	Reason string
}

// Error names the row and says why.
func (e *RowError) Error() string { return fmt.Sprintf("%s %s: %s", e.Kind, e.Name, e.Reason) }

// errExpired says that a token is of no use any more.
var errExpired = errors.New("expired")

// Open connects to a database and begins to read it:
//
//	sqlite:PATH
//	mysql://user:password@host:port/database   (mariadb:// is the same; ?socket=PATH)
//	postgres://user:password@host:port/database
//
// with the parameters of github.com/go-sql-driver/mysql or of libpq behind a
// question mark. Errors name the place without the password.
func Open(ctx context.Context, address string, o Options) (*Source, error) {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Iterations == 0 {
		o.Iterations = 5000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	s := &Source{place: p, options: o, now: o.Now()}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(p.hide(fmt.Errorf("%s: %w", p.name, err)), s.Close())
	}
	return s, nil
}

func (s *Source) open(ctx context.Context) error {
	var err error
	if s.conn, err = s.place.connect(ctx); err != nil {
		return err
	}
	tables, err := s.place.tables(ctx, s.conn)
	if err != nil {
		return err
	}
	found, err := find(tables, s.options)
	if err != nil {
		return err
	}
	s.kind = found.kind
	s.plan = found.kind.plan(found, s)
	return nil
}

// Kind is whose tables they are, one of Kinds.
func (s *Source) Kind() string { return s.kind.name }

// Name is the kind, the host and the database: printable ASCII of at most 255
// bytes, safe to show, and the same at each run.
func (s *Source) Name() string { return s.kind.name + " " + s.place.name }

// String is Name.
func (s *Source) String() string { return s.Name() }

// Count is how many rows the sequences are about to read, or a few more: tokens
// that expire today count.
func (s *Source) Count(ctx context.Context) (clients, users, tokens int64, err error) {
	if clients, err = count(ctx, s, s.plan.clients.base, ""); err != nil {
		return 0, 0, 0, err
	}
	if users, err = count(ctx, s, s.plan.users.base, ""); err != nil {
		return 0, 0, 0, err
	}
	for _, q := range s.plan.tokens {
		n, err := count(ctx, s, q.base, q.live())
		if err != nil {
			return 0, 0, 0, err
		}
		tokens += n
	}
	return clients, users, tokens, nil
}

// Clients reads the clients. An error that is no *RowError is the last.
func (s *Source) Clients(ctx context.Context) iter.Seq2[evergrant.ImportClient, error] {
	return sequence(ctx, s, s.plan.clients)
}

// Users reads the users, if there is a table of them. An error that is no
// *RowError is the last.
func (s *Source) Users(ctx context.Context) iter.Seq2[evergrant.ImportUser, error] {
	return sequence(ctx, s, s.plan.users)
}

// Tokens reads the refresh tokens and then the access tokens, those that have
// expired or are revoked left out. An error that is no *RowError is the last.
func (s *Source) Tokens(ctx context.Context) iter.Seq2[evergrant.ImportToken, error] {
	return func(yield func(evergrant.ImportToken, error) bool) {
		s.expired = 0
		if s.plan.check != nil {
			if err := s.plan.check(ctx); err != nil {
				yield(evergrant.ImportToken{}, s.place.hide(fmt.Errorf("%s: %w", s.place.name, err)))
				return
			}
		}
		for _, q := range s.plan.tokens {
			if q.gone != "" {
				gone, err := count(ctx, s, q.base, and(q.where, "("+q.gone+")"))
				if err != nil {
					yield(evergrant.ImportToken{}, err)
					return
				}
				s.expired += gone
			}
			for token, err := range sequence(ctx, s, q) {
				var row *RowError
				if !yield(token, err) || err != nil && !errors.As(err, &row) {
					return
				}
			}
		}
	}
}

// Expired is how many tokens the last call of Tokens has left out, since they had
// expired or were revoked.
func (s *Source) Expired() int64 { return s.expired }

// Close ends the transaction and the connection.
func (s *Source) Close() error {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return s.place.close()
}
