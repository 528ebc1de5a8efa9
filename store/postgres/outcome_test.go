package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/secret"
	"github.com/jackc/pgx/v5/pgconn"
)

// wire stands between a database and its server, and breaks once where it is told
// to.
type wire struct {
	server string
	mu     sync.Mutex
	at     string // the statement that it breaks at
	after  bool   // when the server has answered, not before the server hears of it
	breaks int
}

// through gives a connection string that leads to the same database through a
// wire, with one connection at a time.
func through(t *testing.T, url string) (string, *wire) {
	t.Helper()
	address, err := ParseAddress(url)
	must(t, err)
	w := &wire{server: net.JoinHostPort(address.Hosts[0], address.Ports[0])}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { w.pass(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		passing.Wait()
	})
	return strings.Replace(url, w.server, listener.Addr().String(), 1) + "&pool_max_conns=1", w
}

// pass joins a client to the server until either leaves, or the wire breaks.
func (w *wire) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	defer back.Wait()
	defer server.Close()
	broken := make(chan struct{}) // nothing of the server's answer passes any more
	back.Go(func() {
		defer client.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			select {
			case <-broken:
				return
			default:
			}
			if _, failure := client.Write(buffer[:n]); err != nil || failure != nil {
				return
			}
		}
	})
	buffer := make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		breaks, after := w.breaksAt(buffer[:n])
		if breaks {
			close(broken)
		}
		if breaks && !after {
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		if breaks {
			back.Wait() // for the answer
			return
		}
	}
}

func (w *wire) breaksAt(said []byte) (breaks, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == "" || !bytes.Contains(said, []byte(w.at)) {
		return false, false
	}
	w.at = ""
	w.breaks++
	return true, w.after
}

// breakAt lets the wire break at a statement.
func (w *wire) breakAt(statement string, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.after = statement, after
}

// broke reports whether the wire broke since the last call.
func (w *wire) broke() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.breaks
	w.breaks = 0
	return n == 1
}

// TestLostAnswers breaks the connection before the server hears of a statement,
// and when it has answered: the row says what happened.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	distant, w := through(t, url)
	db := opened(t, distant)
	for _, c := range []struct {
		name, statement string
		do              func(g issuer.Grant) error
	}{
		{"Rotate", "rotate_grants", func(g issuer.Grant) error {
			got, rotated, err := db.Rotate(t.Context(), next(g))
			return asIf(err, rotated && got.Generation == g.Generation+1 && got.RotatedAt.Equal(next(g).At))
		}},
		{"Rotate with an event", "rotate_grants", func(g issuer.Grant) error {
			r, e := next(g), event("test", g)
			r.Event = &e
			got, rotated, err := db.Rotate(t.Context(), r)
			return asIf(err, rotated && got.Generation == g.Generation+1)
		}},
		{"Rotate that narrows", "rotate_grants", func(g issuer.Grant) error {
			r := next(g)
			r.Scope = g.Scope[:1]
			got, rotated, err := db.Rotate(t.Context(), r)
			return asIf(err, rotated && got.Scope.Equal(r.Scope))
		}},
		{"RehashClient", "UPDATE clients SET doc", func(g issuer.Grant) error {
			c := issuer.Client{ID: g.ID.String(), Secrets: []secret.Verifier{"old"}}
			if _, err := db.Client(t.Context(), c.ID); errors.Is(err, issuer.ErrNotFound) {
				must(t, db.PutClient(t.Context(), c, event(issuer.EventClientSaved, g)))
			}
			did, err := db.RehashClient(t.Context(), c.ID, "old", "new", event(issuer.EventSecretRehashed, g))
			return asIf(err, did)
		}},
		{"Import", "commit", func(g issuer.Grant) error {
			b := issuer.Batch{Users: []issuer.User{{Username: g.ID.String(), Imported: issuer.Origin{Source: "old"}}}, Event: event(issuer.EventImported, g)}
			done, err := db.Import(t.Context(), b)
			return asIf(err, done.Users.Created == 1)
		}},
		{"CreateGrant", "INSERT INTO grants", func(g issuer.Grant) error {
			g.ID = issuer.NewGrantID()
			return db.CreateGrant(t.Context(), g, event("test", g))
		}},
		{"Revoke", "UPDATE grants SET revoked_at", func(g issuer.Grant) error {
			e := event("test", g)
			e.Cause = issuer.CauseClientRequest
			revoked, err := db.Revoke(t.Context(), g.ID, g.CreatedAt, e)
			return asIf(err, revoked)
		}},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %v", c.name, after), func(t *testing.T) {
				g := created(t, db, 2)
				must(t, c.do(g[0])) // the connection knows the statement from now on
				w.broke()
				w.breakAt(c.statement, after)
				err := c.do(g[1])
				if !w.broke() {
					t.Fatal("the statement did not meet the broken wire")
				}
				if after && err != nil {
					t.Errorf("it was done, and the answer is %v", err)
				}
				if !after && (!errors.Is(err, issuer.ErrUnavailable) || !strings.Contains(err.Error(), "not known")) {
					t.Errorf("it was not done, and the answer is %v", err)
				}
				if c.name == "CreateGrant" {
					return // anew each time
				}
				if again := c.do(g[1]); after == (again == nil) {
					t.Errorf("asked again: %v", again)
				}
			})
		}
	}
}

// errOther says that a write was answered as not made.
var errOther = errors.New("it was not made")

func asIf(err error, made bool) error {
	if err == nil && !made {
		return errOther
	}
	return err
}

// TestLostBatch loses the answer to a batch of which some rotations did not apply.
func TestLostBatch(t *testing.T) {
	t.Parallel()
	distant, w := through(t, pgtest.Database(t))
	db := opened(t, distant)
	grants := created(t, db, 8)
	missing, stale := usualGrant(), grants[3]
	stale.ClientID = "another"
	grants[3] = stale
	grants[0] = stepped(t, db, grants[0]) // the connection knows the statement from now on
	var batch []*rotation
	for i, g := range append(grants, missing) {
		one := &rotation{Rotation: next(g)}
		if i%2 == 0 {
			one.Scope = g.Scope[:i/2+1]
		}
		batch = append(batch, one)
	}
	w.breakAt("rotate_grants", true)
	db.rotateBatch(batch)
	if !w.broke() {
		t.Fatal("the batch did not meet the broken wire")
	}
	for _, r := range batch {
		switch r.ID {
		case missing.ID:
			if !errors.Is(r.err, issuer.ErrNotFound) {
				t.Errorf("of no grant: %+v, %v, %v", r.grant, r.rotated, r.err)
			}
		case stale.ID:
			if r.rotated || !errors.Is(r.err, issuer.ErrUnavailable) || !strings.Contains(r.err.Error(), "not known") {
				t.Errorf("of another client: %+v, %v, %v", r.grant, r.rotated, r.err)
			}
		default:
			if r.err != nil || !r.rotated || r.grant.Generation != r.To || r.Scope != nil && !r.grant.Scope.Equal(r.Scope) {
				t.Errorf("%+v, %v, %v", r.grant, r.rotated, r.err)
			}
		}
	}
}

func TestSettleRotation(t *testing.T) {
	g := usualGrant()
	r := next(g)
	r.Scope = g.Scope[:2]
	cause := unavailable(io.ErrUnexpectedEOF)
	change := func(f func(*issuer.Grant)) issuer.Grant {
		row := g
		row.Generation, row.RotatedAt, row.ExpiresAt, row.AccessExpiresAt, row.Scope = r.To, r.At, r.ExpiresAt, r.AccessExpiresAt, r.Scope
		f(&row)
		return row
	}
	for _, c := range []struct {
		name        string
		row         issuer.Grant
		known, ours bool
	}{
		{"it is there", change(func(*issuer.Grant) {}), true, true},
		{"it is there, and revoked since", change(func(g *issuer.Grant) { g.RevokedAt = r.At }), true, true},
		{"somebody else's is, of another time", change(func(g *issuer.Grant) { g.RotatedAt = r.At.Add(time.Millisecond) }), true, false},
		{"somebody else's is, under another key", change(func(g *issuer.Grant) { g.KeyID++ }), true, false},
		{"somebody else's is, with another scope", change(func(g *issuer.Grant) { g.Scope = g.Scope[:1] }), true, false},
		{"somebody else's is, with another expiry", change(func(g *issuer.Grant) { g.ExpiresAt = time.Time{} }), true, false},
		{"the row is another client's", change(func(g *issuer.Grant) { g.ClientID = "another" }), true, false},
		{"it is there, but not narrowed", change(func(row *issuer.Grant) { row.Scope = g.Scope }), true, false},
		{"not yet", g, false, false},
		{"the row went on", change(func(g *issuer.Grant) { g.Generation++ }), false, false},
	} {
		row, rotated, err := settleRotation(r, c.row, cause)
		switch {
		case c.known && (err != nil || rotated != c.ours || row.Generation != r.To):
			t.Errorf("%s: %+v, %v, %v", c.name, row, rotated, err)
		case !c.known && (rotated || !errors.Is(err, issuer.ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF)):
			t.Errorf("%s: %+v, %v, %v", c.name, row, rotated, err)
		}
	}
}

func TestErrors(t *testing.T) {
	server := func(severity, code string) error {
		return &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: severity, Code: code, Message: "m"}
	}
	for _, c := range []struct {
		name                        string
		err                         error
		unavailable, unknown, again bool
	}{
		{"nothing", nil, false, false, false},
		{"the store's own", issuer.ErrNotFound, false, false, false},
		{"a constraint", server("ERROR", uniqueViolation), false, false, false},
		{"bad text", server("ERROR", "22021"), false, false, false},
		{"a deadlock", server("ERROR", deadlock), true, false, true},
		{"a serialization failure", server("ERROR", serialization), true, false, true},
		{"a read-only server", server("ERROR", readOnly), true, false, true},
		{"a full disk", server("ERROR", "53100"), true, false, false},
		{"a statement's timeout", server("ERROR", "57014"), true, false, false},
		{"an unknown outcome by name", server("ERROR", unknownOutcome), true, true, false},
		{"a pooler's lost server", server("ERROR", "08P01"), true, true, false},
		{"an administrator's command", server("FATAL", "57P01"), true, true, false},
		{"a crash", server("PANIC", "XX000"), true, true, false},
		{"a crash, as an old pooler passes it on", &pgconn.PgError{Severity: "FATAL", Code: "57P02"}, true, true, false},
		{"a failed write of the log", server("PANIC", "58030"), true, true, false},
		{"our deadline", context.DeadlineExceeded, true, true, false},
		{"an end of the stream", io.ErrUnexpectedEOF, true, true, false},
		{"a reset", &net.OpError{Op: "read", Err: errors.New("reset")}, true, true, false},
		{"no connection", notBegun{&net.OpError{Op: "dial", Err: errors.New("refused")}}, true, false, true},
		{"no connection in time", notBegun{context.DeadlineExceeded}, true, false, true},
		{"no connection, as the server says", notBegun{server("FATAL", "57P03")}, true, false, true},
		{"a stall", unavailable(errNoCommit), true, false, false},
		{"a closed database", errClosed, true, false, false},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			got := classify(err)
			if errors.Is(got, issuer.ErrUnavailable) != c.unavailable || errors.Is(got, keeper.ErrUnavailable) != c.unavailable {
				t.Errorf("%s: %v", c.name, got)
			}
			if outcomeUnknown(err) != c.unknown || outcomeUnknown(got) != c.unknown || again(err) != c.again {
				t.Errorf("%s: unknown %v and %v, again %v", c.name, outcomeUnknown(err), outcomeUnknown(got), again(err))
			}
			if err != nil && !strings.Contains(got.Error(), err.Error()) {
				t.Errorf("%s: the cause is lost in %v", c.name, got)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("in context: %w", err)
}
