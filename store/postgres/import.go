package postgres

import (
	"context"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// repeatable lets an import write what it decided on only if nobody has changed
	// it since it was read: the server breaks it off otherwise, and it begins anew.
	repeatable   = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
	importGrants = `INSERT INTO grants (id, client_id, subject, scope, revoked_cause, generation, key_id, created_at, rotated_at, expires_at,
			ends_at, access_expires_at, revoked_at, retries, purge_hour)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
			$10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[]) AS g (id)
		ORDER BY id ON CONFLICT (id) DO NOTHING`
	countGrants = "SELECT count(*) FROM grants WHERE id = ANY ($1::uuid[])"
)

// Import implements [issuer.Importer].
func (db *DB) Import(ctx context.Context, batch issuer.Batch) (done issuer.Imported, err error) {
	if err := storableBatch(batch); err != nil {
		return issuer.Imported{}, err
	}
	if batch.DryRun {
		return db.dryImport(ctx, batch)
	}
	err = db.transact(ctx, func(ctx context.Context, s session) error {
		if _, err := s.Exec(ctx, repeatable); err != nil {
			return err
		}
		done, err = importBatch(ctx, s, batch)
		return err
	})
	if err == nil && column.Wrote(done) {
		db.happened()
	}
	err = db.settle(ctx, err, func(ctx context.Context) (bool, error) {
		left, err := db.dryImport(ctx, batch)
		return !column.Wrote(left), err
	})
	if err != nil {
		return issuer.Imported{}, err
	}
	return done, nil
}

// storableBatch refuses a batch that has text which cannot be stored. Documents
// have none: JSON escapes it.
func storableBatch(batch issuer.Batch) error {
	ok := true
	for _, c := range batch.Clients {
		ok = ok && storable(c.ID)
	}
	for _, u := range batch.Users {
		ok = ok && storable(u.Username)
	}
	for _, g := range batch.Grants {
		ok = ok && storable(g.ClientID, g.Subject, g.Scope.String(), string(g.RevokedCause))
	}
	if !ok {
		return errText
	}
	return nil
}

// dryImport counts what an import would do, or has still to do.
func (db *DB) dryImport(ctx context.Context, batch issuer.Batch) (done issuer.Imported, err error) {
	batch.DryRun = true
	err = db.read(ctx, func(ctx context.Context, s session) (err error) {
		done, err = importBatch(ctx, s, batch)
		return err
	})
	if err != nil {
		return issuer.Imported{}, err
	}
	return done, nil
}

func importBatch(ctx context.Context, s session, batch issuer.Batch) (done issuer.Imported, err error) {
	if done.Clients, err = importDocuments(ctx, s, clients(), column.ClientRows(batch.Clients), batch.DryRun); err != nil {
		return done, err
	}
	if done.Users, err = importDocuments(ctx, s, users(), column.UserRows(batch.Users), batch.DryRun); err != nil {
		return done, err
	}
	if done.Grants, err = importRows(ctx, s, batch); err != nil {
		return done, err
	}
	if !batch.DryRun && column.Wrote(done) {
		_, err = s.Exec(ctx, insertEvent, eventArgs(batch.Event)...)
	}
	return done, err
}

// importDocuments writes what is to be written of a batch, unless it is dry.
func importDocuments(ctx context.Context, s session, t table, batch []column.Row, dry bool) (issuer.ImportCount, error) {
	if len(batch) == 0 {
		return issuer.ImportCount{}, nil
	}
	var names []string
	for _, d := range batch {
		names = append(names, d.Name)
	}
	rows, err := s.Query(ctx, t.getAll, names)
	if err != nil {
		return issuer.ImportCount{}, err
	}
	stored := map[string]string{}
	var name, doc string
	_, err = pgx.ForEachRow(rows, []any{&name, &doc}, func() error {
		stored[name] = doc
		return nil
	})
	if err != nil {
		return issuer.ImportCount{}, err
	}
	puts, count, err := column.Puts(batch, stored)
	if err != nil || dry || len(puts) == 0 {
		return count, err
	}
	var docs []string
	names = names[:0]
	for _, put := range puts {
		names, docs = append(names, put.Name), append(docs, put.Doc)
	}
	_, err = s.Exec(ctx, t.putAll, names, docs)
	return count, err
}

// importRows stores the grants of a batch that are not there, or counts them
// where it is dry.
func importRows(ctx context.Context, s session, batch issuer.Batch) (count issuer.ImportCount, err error) {
	if len(batch.Grants) == 0 {
		return count, nil
	}
	ids, columns := grantArrays(batch)
	if batch.DryRun {
		var there int
		err = s.QueryRow(ctx, countGrants, ids).Scan(&there)
		count.Created = len(ids) - there
	} else {
		var tag pgconn.CommandTag
		tag, err = s.Exec(ctx, importGrants, append([]any{ids}, columns...)...)
		count.Created = int(tag.RowsAffected())
	}
	count.Unchanged = len(batch.Grants) - count.Created
	return count, err
}

// grantArrays are the arguments of importGrants, each grant once.
func grantArrays(batch issuer.Batch) (ids [][16]byte, columns []any) {
	var texts [4][]string
	var numbers [10][]int64
	met := map[issuer.GrantID]bool{}
	for _, g := range batch.Grants {
		if met[g.ID] {
			continue
		}
		met[g.ID] = true
		ids = append(ids, g.ID)
		for i, text := range []string{g.ClientID, g.Subject, g.Scope.String(), string(g.RevokedCause)} {
			texts[i] = append(texts[i], text)
		}
		for i, number := range []int64{
			int64(g.Generation), int64(g.KeyID), column.Millis(g.CreatedAt), column.Millis(g.RotatedAt), column.Millis(g.ExpiresAt),
			column.Millis(g.EndsAt), column.Millis(g.AccessExpiresAt), column.Millis(g.RevokedAt), int64(g.Retries), column.PurgeHour(g, batch.Event.At),
		} {
			numbers[i] = append(numbers[i], number)
		}
	}
	for _, column := range texts {
		columns = append(columns, column)
	}
	for _, column := range numbers {
		columns = append(columns, column)
	}
	return ids, columns
}
