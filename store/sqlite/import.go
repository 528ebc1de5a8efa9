package sqlite

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/issuer"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

// importGrant leaves a grant that is there as it is.
const importGrant = insertGrant + " ON CONFLICT (id) DO NOTHING"

// Import implements [issuer.Importer]. While it is written, which takes as long as
// some hundred other writes, those wait.
func (db *DB) Import(ctx context.Context, batch issuer.Batch) (done issuer.Imported, err error) {
	step := func(conn *driver.Conn) (err error) {
		done, err = importBatch(conn, batch)
		return err
	}
	if batch.DryRun {
		err = db.readers.scan(ctx, step)
	} else {
		err = db.writer.do(ctx, whole(step))
	}
	if err != nil {
		return issuer.Imported{}, err
	}
	return done, nil
}

func importBatch(conn *driver.Conn, batch issuer.Batch) (done issuer.Imported, err error) {
	if done.Clients, err = importDocuments(conn, clients(), column.ClientRows(batch.Clients), batch.DryRun); err != nil {
		return done, err
	}
	if done.Users, err = importDocuments(conn, users(), column.UserRows(batch.Users), batch.DryRun); err != nil {
		return done, err
	}
	if batch.DryRun {
		done.Grants, err = countGrants(conn, batch.Grants)
		return done, err
	}
	done.Grants, err = importGrants(conn, batch.Grants, batch.Event.At)
	if err == nil && column.Wrote(done) {
		err = insertEvent(conn, batch.Event)
	}
	return done, err
}

// importDocuments writes what is to be written of a batch, unless it is dry.
func importDocuments(conn *driver.Conn, t table, batch []column.Row, dry bool) (issuer.ImportCount, error) {
	stored := map[string]string{}
	for _, d := range batch {
		docs, err := texts(conn, t.get, d.Name)
		if err != nil {
			return issuer.ImportCount{}, err
		}
		if len(docs) > 0 {
			stored[d.Name] = docs[0]
		}
	}
	puts, count, err := column.Puts(batch, stored)
	if err != nil || dry {
		return count, err
	}
	for _, put := range puts {
		if err := run(conn, t.put, nil, put.Name, put.Doc); err != nil {
			return count, err
		}
	}
	return count, nil
}

func importGrants(conn *driver.Conn, grants []issuer.Grant, now time.Time) (count issuer.ImportCount, err error) {
	for _, g := range grants {
		if err := run(conn, importGrant, nil, grantValues(g, now)...); err != nil {
			return count, err
		}
		count.Created += conn.Changes()
	}
	count.Unchanged = len(grants) - count.Created
	return count, nil
}

// countGrants counts what importGrants would do.
func countGrants(conn *driver.Conn, grants []issuer.Grant) (count issuer.ImportCount, err error) {
	met := map[issuer.GrantID]bool{}
	for _, g := range grants {
		there, err := number(conn, "SELECT count(*) FROM grants WHERE id = ?", g.ID[:])
		if err != nil {
			return count, err
		}
		if there == 0 && !met[g.ID] {
			count.Created++
		}
		met[g.ID] = true
	}
	count.Unchanged = len(grants) - count.Created
	return count, nil
}
