package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
	"github.com/jackc/pgx/v5"
)

// contents is all that the keeper has stored, as text.
func contents(t testing.TB, s session) string {
	t.Helper()
	var text []string
	for _, table := range []string{"connections", "journal", "events", "once", "keys"} {
		rows, err := all(t.Context(), s, "SELECT r::text FROM "+table+" AS r ORDER BY 1", nil, pgx.RowTo[string])
		must(t, err)
		text = append(text, table+"\n"+strings.Join(rows, "\n"))
	}
	return strings.Join(text, "\n")
}

// writes are all that changes something, each on a connection of its own that has
// an open intent.
func writes(ctx context.Context, k Keeper, c keeper.Connection) map[string]func() (bool, error) {
	return map[string]func() (bool, error){
		"Create": func() (bool, error) {
			fresh := usual(c.ID + "-fresh")
			err := k.Create(ctx, fresh, eventOf(keeper.EventCreated, fresh))
			return err == nil, err
		},
		"Lease": func() (bool, error) {
			_, leased, err := k.Lease(ctx, c.ID, c.LeaseUntil, c.LeaseUntil.Add(leaseFor))
			return leased, err
		},
		"Begin": func() (bool, error) {
			return k.Begin(ctx, c.ID, c.Fence, requested("second"), begun().Add(-time.Minute))
		},
		"Answer": func() (bool, error) { return k.Answer(ctx, c.ID, "first", sealedText(7, "answer")) },
		"Commit": func() (bool, error) {
			return k.Commit(ctx, c.Fence, c.Generation, renewed(c), eventOf(keeper.EventRefreshed, c))
		},
		"Delete": func() (bool, error) { return k.Delete(ctx, c.ID, c.Fence, eventOf(keeper.EventDeleted, c)) },
		"Record": func() (bool, error) { return k.Record(ctx, eventOf("test.event", c)) },
		"Alarm": func() (bool, error) {
			e := eventOf(keeper.EventProviderDown, c)
			e.Connection, e.Provider = "", c.ID
			return k.Record(ctx, e, keeper.EventProviderDown, keeper.EventProviderUp)
		},
		"Once": func() (bool, error) { return k.Once(ctx, c.ID, begun(), begun().Add(time.Hour)) },
	}
}

// TestKeeperIsWhole lets each table refuse in turn: where any part of an intent
// fails, nothing of it is done, and the next one is.
func TestKeeperIsWhole(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	execute(t, conn, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
	for refusal, want := range map[string][]string{
		"INSERT ON connections":               {"Create"},
		"UPDATE OF generation ON connections": {"Commit"},
		"UPDATE OF due_at ON connections":     {"Begin", "Commit"},
		"DELETE ON connections":               {"Delete"},
		"INSERT ON journal":                   {"Create"},
		"UPDATE OF fence ON journal":          {"Lease"},
		"UPDATE OF request_id ON journal":     {"Begin", "Commit"},
		"UPDATE OF answer ON journal":         {"Answer", "Begin", "Commit"},
		"DELETE ON journal":                   {"Delete"},
		"INSERT ON events":                    {"Alarm", "Commit", "Create", "Delete", "Record"},
		"INSERT OR UPDATE ON once":            {"Once"},
	} {
		c := worked(t, db, strings.ReplaceAll("c-"+refusal, " ", "-"))
		execute(t, conn, "CREATE TRIGGER refusal BEFORE "+refusal+" FOR EACH ROW EXECUTE FUNCTION refuse()")
		table := strings.Fields(refusal)[len(strings.Fields(refusal))-1]
		for _, name := range want {
			before := contents(t, conn)
			if did, err := writes(t.Context(), db.Keeper(), c)[name](); did || err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("refused %s, and %s gave %v, %v", refusal, name, did, err)
			}
			if after := contents(t, conn); after != before {
				t.Errorf("refused %s, and %s left\n%s\nit was\n%s", refusal, name, after, before)
			}
		}
		execute(t, conn, "DROP TRIGGER refusal ON "+table)
		for _, name := range want {
			c := worked(t, db, c.ID+"-"+name)
			if did, err := writes(t.Context(), db.Keeper(), c)[name](); !did || err != nil {
				t.Errorf("%s afterwards: %v, %v", name, did, err)
			}
		}
	}
}

// TestKeeperLosesAnswers breaks the connection of each write before the server gets it,
// and when the server has done it: the error says that this is not known, and
// what is stored is what was done. A creation is proven by its row.
func TestKeeperLosesAnswers(t *testing.T) {
	url := pgtest.Database(t)
	distant, w := through(t, url)
	db, whole := opened(t, distant), opened(t, url)
	conn := connected(t, url)
	for name := range writes(t.Context(), db.Keeper(), keeper.Connection{}) {
		// What is not known yet of a statement is asked once, so that the id is sent
		// with the arguments alone.
		warm := worked(t, whole, "warm-"+name)
		if did, err := writes(t.Context(), db.Keeper(), warm)[name](); !did || err != nil {
			t.Fatal(name, did, err)
		}
		for _, applied := range []bool{false, true} {
			c := worked(t, whole, fmt.Sprintf("marked-%s-%v", name, applied))
			before := contents(t, conn)
			sent := c.ID
			if name == "Alarm" { // the only one of two statements
				sent = "commit\x00"
			}
			w.breakAt(sent, applied)
			did, err := writes(t.Context(), db.Keeper(), c)[name]()
			if !w.broke() {
				t.Errorf("%s did not meet the broken wire", name)
			}
			proven := name == "Create" && applied
			if did != proven || !proven && !errors.Is(err, keeper.ErrUnavailable) || !proven && !strings.Contains(err.Error(), "not known") {
				t.Errorf("%s, done %v: %v, %v", name, applied, did, err)
			}
			if wrote := contents(t, conn) != before; wrote != applied {
				t.Errorf("%s, done %v: it is stored: %v", name, applied, wrote)
			}
		}
	}
}

// TestTextThatPostgresRefuses stores texts with a NUL and such that are not
// UTF-8, which come from providers, and looks for them.
func TestTextThatPostgresRefuses(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	k, ctx, bad, seen := db.Keeper(), t.Context(), "a\x00b\xffc", "a\uFFFDb\uFFFDc"
	c := usual("c")
	c.Provider, c.Tenant, c.Owner, c.Cause, c.Class, c.Error, c.TokenType = bad, bad, bad, keeper.Cause(bad), "\x00", bad, bad
	c.Scope, c.Asked = oauth.Scope{bad}, oauth.Scope{"x", bad}
	c.Params, c.Metadata = map[string]string{bad: bad}, map[string]any{"nul": "\x00", "deep": []any{"\x00\xff"}}
	c.Intent = &keeper.Intent{RequestID: bad}
	e := eventOf(bad, c)
	e.Actor, e.Address, e.Cause, e.Class, e.Detail = bad, bad, keeper.Cause(bad), "\x00", bad
	must(t, k.Create(ctx, c, e))
	got := row(t, db, "c")
	want := c
	want.Provider, want.Tenant, want.Owner, want.Cause, want.Class, want.Error, want.TokenType = seen, seen, seen, keeper.Cause(seen), "\uFFFD", seen, seen
	want.Scope, want.Asked = oauth.Scope{seen}, oauth.Scope{"x", seen}
	want.Params, want.Metadata = map[string]string{"a\x00b\uFFFDc": "a\x00b\uFFFDc"}, map[string]any{"nul": "\x00", "deep": []any{"\x00\uFFFD"}}
	want.Intent, want.Fence = &keeper.Intent{RequestID: seen}, got.Fence
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it is read back as\n  %+v, want\n  %+v", got, want)
	}
	if did, err := k.Answer(ctx, "c", bad, sealedText(7, "answer")); !did || err != nil {
		t.Error("the answer to that request:", did, err)
	}
	for _, filter := range []keeper.EventFilter{{Provider: bad}, {Tenant: &bad}, {Connection: "c"}} {
		if events, err := k.Events(ctx, filter); err != nil || len(events) != 1 || events[0].Type != seen || events[0].Owner != seen || events[0].Detail != seen {
			t.Errorf("events %+v, %v", events, err)
		}
	}
	for range 2 {
		if did, err := k.Record(ctx, keeper.Event{Type: bad, Provider: bad}, bad); err != nil || did != (len(got.ID) == 1) {
			t.Error("alarm:", did, err)
		}
		got.ID = "" // the second one is not recorded
	}
	if did, err := k.Once(ctx, bad, begun(), begun().Add(time.Hour)); !did || err != nil {
		t.Error("name:", did, err)
	}
	next := row(t, db, "c")
	next.Error, next.Owner = bad, bad
	if did, err := k.Commit(ctx, next.Fence, next.Generation, next, e); !did || err != nil {
		t.Error("commit:", did, err)
	}
}

// TestIdsThatPostgresRefuses looks for what cannot be there: it is not, and the
// server is not asked.
func TestIdsThatPostgresRefuses(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	k, ctx := db.Keeper(), t.Context()
	worked(t, db, "c")
	for _, bad := range []string{"\x00", "c\x00", "\xff"} {
		c := usual(bad)
		if err := k.Create(ctx, c, eventOf(keeper.EventCreated, c)); err == nil || errors.Is(err, keeper.ErrUnavailable) || errors.Is(err, keeper.ErrExists) {
			t.Errorf("created: %v", err)
		}
		if _, err := k.Connection(ctx, bad); !errors.Is(err, keeper.ErrNotFound) {
			t.Errorf("read: %v", err)
		}
		for name, write := range writes(ctx, k, c) {
			if did, err := write(); did && slices.Contains([]string{"Lease", "Begin", "Answer", "Commit", "Delete"}, name) ||
				err != nil && !(name == "Lease" && errors.Is(err, keeper.ErrNotFound)) && name != "Create" {
				t.Errorf("%s: %v, %v", name, did, err)
			}
		}
		for _, filter := range []keeper.Filter{{Provider: bad}, {Owner: bad}, {State: keeper.State(bad)}, {Tenant: &bad}, {After: bad}} {
			if got, err := k.Connections(ctx, filter); len(got) > 0 || err != nil {
				t.Errorf("list %+v: %v, %v", filter, got, err)
			}
		}
		if due, err := k.Due(ctx, begun(), 10, bad); len(due) > 0 || err != nil {
			t.Errorf("due: %v, %v", due, err)
		}
		if due, err := k.Due(ctx, begun().Add(time.Hour), 10, bad, "acme"); len(due) != 1 || err != nil {
			t.Errorf("due of two: %v, %v", due, err)
		}
		if ids, err := k.Stale(ctx, 100, bad, 10); err != nil {
			t.Errorf("stale: %v, %v", ids, err)
		}
	}
}

// TestConnectionThatCannotBeStored gives metadata that JSON cannot have.
func TestConnectionThatCannotBeStored(t *testing.T) {
	db := opened(t, pgtest.Database(t))
	c := worked(t, db, "c")
	c.Metadata = map[string]any{"nan": math.NaN()}
	if _, err := db.Keeper().Commit(t.Context(), c.Fence, c.Generation, c); err == nil || !strings.Contains(err.Error(), `connection "c" cannot be stored`) {
		t.Errorf("error is %v", err)
	}
	c.ID = "other"
	if err := db.Keeper().Create(t.Context(), c, keeper.Event{}); err == nil || !strings.Contains(err.Error(), `connection "other" cannot be stored`) {
		t.Errorf("error is %v", err)
	}
	if c := row(t, db, "c"); c.Metadata != nil {
		t.Errorf("it is stored: %v", c.Metadata)
	}
}

func TestDamagedConnection(t *testing.T) {
	url := pgtest.Database(t)
	db, conn := opened(t, url), connected(t, url)
	for _, column := range []string{"params", "metadata"} {
		c := worked(t, db, column)
		execute(t, conn, "UPDATE connections SET "+column+" = '{\"a\": ' WHERE id = $1", c.ID)
		_, err := db.Keeper().Connection(t.Context(), c.ID)
		_, leased, leaseErr := db.Keeper().Lease(t.Context(), c.ID, c.LeaseUntil, c.LeaseUntil.Add(leaseFor))
		_, listErr := db.Keeper().Connections(t.Context(), keeper.Filter{})
		for _, err := range []error{err, leaseErr, listErr} {
			if leased || err == nil || !strings.Contains(err.Error(), fmt.Sprintf("connection %q is damaged", c.ID)) {
				t.Errorf("error is %v", err)
			}
		}
		execute(t, conn, "DELETE FROM connections")
		execute(t, conn, "DELETE FROM journal")
	}
}

// TestUnavailableInBothWords lets callers of either half recognize the error
// without the other.
func TestUnavailableInBothWords(t *testing.T) {
	url := pgtest.Database(t)
	db := opened(t, url)
	c := worked(t, db, "c")
	must(t, db.Close())
	for name, write := range writes(t.Context(), db.Keeper(), c) {
		if did, err := write(); did || !errors.Is(err, keeper.ErrUnavailable) || !errors.Is(err, issuer.ErrUnavailable) || strings.Contains(err.Error(), "not known") {
			t.Errorf("%s: %v, %v", name, did, err)
		}
	}
}

// TestKeyComesBack seals under a key that was deleted, as a process does that has
// not heard of it: the record is there again, so that what was sealed can be
// opened. Other numbers are left alone.
func TestKeyComesBack(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	k, ctx := db.Keeper(), t.Context()
	seal := map[string]func(c keeper.Connection, key uint32) error{
		"create": func(c keeper.Connection, key uint32) error {
			c.ID += "-new"
			c.Tokens.KeyID = key
			return k.Create(ctx, c, eventOf(keeper.EventCreated, c))
		},
		"answer": func(c keeper.Connection, key uint32) error {
			_, err := k.Answer(ctx, c.ID, "first", sealedText(key, "answer"))
			return err
		},
		"commit": func(c keeper.Connection, key uint32) error {
			next := renewed(c)
			next.Tokens.KeyID = key
			_, err := k.Commit(ctx, c.Fence, c.Generation, next)
			return err
		},
		"commit with an answer": func(c keeper.Connection, key uint32) error {
			intent := requested("first")
			c.Intent = &intent
			c.Intent.Answer = sealedText(key, "answer")
			_, err := k.Commit(ctx, c.Fence, c.Generation, c)
			return err
		},
	}
	for name, seal := range seal {
		for _, test := range []struct {
			key  uint32
			want []uint32
		}{{2, []uint32{2, 7}}, {7, []uint32{7}}, {9, []uint32{7}}, {0, []uint32{7}}} {
			execute(t, other, "DELETE FROM keys")
			must(t, db.AddKey(ctx, secret.KeyRecord{ID: 7, Root: "root", CreatedAt: begun(), ActiveFrom: begun()}))
			c := worked(t, db, strings.ReplaceAll(fmt.Sprintf("c-%s-%d", name, test.key), " ", "-"))
			must(t, seal(c, test.key))
			records, err := db.Keys(ctx)
			must(t, err)
			var ids []uint32
			for _, record := range records {
				ids = append(ids, record.ID)
				if record.Root != "root" || !record.ActiveFrom.Equal(begun()) || record.SealedRSA != nil {
					t.Errorf("%s: record %+v", name, record)
				}
			}
			if !slices.Equal(ids, test.want) {
				t.Errorf("%s under key %d: the keys are %v, want %v", name, test.key, ids, test.want)
			}
		}
	}
}

// TestSealingMeetsDeletion lets a commit and the deletion of its key wait for each
// other: either the key stays, or it comes back.
func TestSealingMeetsDeletion(t *testing.T) {
	url := pgtest.Database(t)
	db, other := opened(t, url), connected(t, url)
	for _, id := range []uint32{8, 9} {
		must(t, db.AddKey(t.Context(), secret.KeyRecord{ID: id, Root: "root"}))
	}
	c := worked(t, db, "c")
	var err error
	behind(t, other, true, []statement{committing(c)}, func() { err = db.DeleteKey(t.Context(), 8) })
	if !errors.Is(err, secret.ErrKeyInUse) {
		t.Errorf("a key under which a commit was sealing: %v", err)
	}

	c = worked(t, db, "d")
	next := renewed(c)
	next.Tokens = sealedText(8, "late")
	execute(t, other, "DELETE FROM connections WHERE id = 'c'")
	var did bool
	behind(t, other, true, []statement{{"LOCK TABLE connections, journal IN SHARE MODE", nil}, {"DELETE FROM keys WHERE id = 8", nil}}, func() {
		did, err = db.Keeper().Commit(t.Context(), c.Fence, c.Generation, next)
	})
	if !did || err != nil || value[int](t, other, "SELECT count(*) FROM keys WHERE id = 8") != 1 {
		t.Errorf("a commit while its key was deleted: %v, %v", did, err)
	}
}
