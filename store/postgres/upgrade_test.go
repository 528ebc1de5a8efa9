package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

// rotateBefore is the refresh of the release that knew schema1 alone, word for
// word.
const rotateBefore = "SELECT " + grantColumns + " FROM rotate_grants($1, $2, $3, $4, $5, $6, $7, $8) AS grants"

// steppedBefore makes the usual step of a grant as that release does.
func steppedBefore(t *testing.T, s session, g issuer.Grant) issuer.Grant {
	t.Helper()
	r := next(g)
	grants, err := all(t.Context(), s, rotateBefore, []any{
		[][16]byte{r.ID}, []string{r.ClientID}, []int64{int64(r.From)}, []int64{int64(r.To)}, []int64{int64(r.KeyID)},
		[]int64{column.Millis(r.At)}, []int64{column.Millis(r.ExpiresAt)}, []int64{column.Millis(r.AccessExpiresAt)},
	}, scanGrant)
	if err != nil || len(grants) != 1 || grants[0].Generation != r.To {
		t.Fatalf("%+v, %v", grants, err)
	}
	return grants[0]
}

// TestUpgrade opens a database of the release before, while a process of that
// release goes on: what is there stays, and both refresh the same grants.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	before, err := open(t.Context(), url, Options{}, migrations()[:1])
	must(t, err)
	t.Cleanup(func() { before.Close() })
	old := connected(t, url)
	if got := layout(t, old); got != [3]int{1, 1, 1} {
		t.Fatalf("layout %v", got)
	}
	grants := created(t, before, 3)
	must(t, before.PutClient(t.Context(), issuer.Client{ID: "shop", Name: "Shop"}, event(issuer.EventClientSaved, grants[0])))
	grants[0] = steppedBefore(t, old, grants[0])

	db := opened(t, url)
	if got := layout(t, old); got != [3]int{2, 1, 1} {
		t.Errorf("layout %v", got)
	}
	for i, g := range grants {
		if got, err := db.Grant(t.Context(), g.ID); err != nil || fmt.Sprint(got) != fmt.Sprint(g) {
			t.Errorf("got %+v, %v, want %+v", got, err, g)
		}
		for range 5 {
			g = stepped(t, db, g)
			g = steppedBefore(t, old, g)
		}
		r := next(g)
		r.Scope = g.Scope[:1]
		got, rotated, err := db.Rotate(t.Context(), r)
		if err != nil || !rotated || !got.Scope.Equal(r.Scope) {
			t.Errorf("narrowed: %+v, %v, %v", got, rotated, err)
		}
		if grants[i] = steppedBefore(t, old, got); !grants[i].Scope.Equal(r.Scope) {
			t.Errorf("the release before widened it: %+v", grants[i])
		}
	}
	created(t, before, 1)
	again, err := open(t.Context(), url, Options{}, migrations()[:1]) // one that crashed, say, and is started again
	must(t, err)
	must(t, again.Close())
	if client, err := db.Client(t.Context(), "shop"); err != nil || client.Name != "Shop" {
		t.Errorf("%+v, %v", client, err)
	}
	use := issuer.Use{ClientID: "shop", Habit: issuer.HabitRetry, Count: 1, First: grants[0].CreatedAt, Last: grants[0].CreatedAt}
	must(t, db.CountUses(t.Context(), []issuer.Use{use}))
	if uses, err := db.Uses(t.Context(), issuer.UseFilter{}); err != nil || !slices.Equal(uses, []issuer.Use{use}) {
		t.Errorf("%+v, %v", uses, err)
	}
	must(t, before.DeleteClient(t.Context(), "shop", event(issuer.EventClientDeleted, grants[0])))
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Rows["grants"] != 4 || stats.Rows["habits"] != 0 {
		t.Errorf("rows %v, %v", stats.Rows, err)
	}
}

// TestUpgradedIsAsNew finds the same tables and functions in a database that was
// migrated as in a new one.
func TestUpgradedIsAsNew(t *testing.T) {
	t.Parallel()
	described := func(conn *pgx.Conn) []string {
		rows, err := all(t.Context(), conn, `SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || coalesce(collation_name, '') || is_nullable
				FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
			UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`, nil, pgx.RowTo[string])
		must(t, err)
		return rows
	}
	url, fresh := pgtest.Database(t), pgtest.Database(t)
	before, err := open(t.Context(), url, Options{}, migrations()[:1])
	must(t, err)
	must(t, before.Close())
	opened(t, url)
	opened(t, fresh)
	got, want := described(connected(t, url)), described(connected(t, fresh))
	if !slices.Equal(got, want) || !strings.Contains(strings.Join(got, "\n"), "habits.first_at") {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
}

// TestRotationsFindTheirRows calls each rotate_grants in a session that has kept
// its plan since the table had a few rows, when it has many, and looks at which
// index was read.
func TestRotationsFindTheirRows(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := opened(t, url)
	conn := connected(t, url)
	execute(t, conn, "ALTER TABLE grants SET (autovacuum_enabled = FALSE)")
	grants := created(t, db, 2)
	narrow := func(s session, g issuer.Grant) issuer.Grant {
		r := next(g)
		rows, err := all(t.Context(), s, rotateGrants, []any{
			[][16]byte{r.ID}, []string{r.ClientID}, []int64{int64(r.From)}, []int64{int64(r.To)}, []int64{int64(r.KeyID)},
			[]int64{column.Millis(r.At)}, []int64{column.Millis(r.ExpiresAt)}, []int64{column.Millis(r.AccessExpiresAt)}, []*string{nil},
		}, scanGrant)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%+v, %v", rows, err)
		}
		return rows[0]
	}
	session, err := pgx.Connect(t.Context(), url)
	must(t, err)
	execute(t, conn, "ANALYZE grants")
	step := func() {
		grants[0], grants[1] = steppedBefore(t, session, grants[0]), narrow(session, grants[1])
	}
	const few, many = 10, 20
	for range few { // after five of them a plan is kept
		step()
	}
	fillGrants(t, conn, 5_000)
	for range many {
		step()
	}
	must(t, session.Close(t.Context())) // a session that ends tells its counts
	eventually(t, "the steps are counted", func() bool {
		return value[int](t, conn, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'grants'") == 2*(few+many)
	})
	sequential := value[int](t, conn, "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'grants'")
	read := func(index string) int {
		return value[int](t, conn, "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1", index)
	}
	client, subject, id := read("grants_client"), read("grants_subject"), read("grants_pkey")
	if sequential != 0 || client != 0 || subject != 0 || id != 2*(few+many) {
		t.Errorf("%d reads of the table, %d by client, %d by subject, %d by id", sequential, client, subject, id)
	}
}
