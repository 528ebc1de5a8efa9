package sqlite

import (
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	driver "zombiezen.com/go/sqlite"
)

const (
	// indexedColumns stand in indexes, and seldom change.
	indexedColumns = "provider, tenant, owner, state, key_id"
	// plainColumns are the others, but for the tokens, which come last in a row.
	plainColumns = "cause, since, background, params, metadata, scope, asked, token_type, generation, issued_at, expires_at," +
		" refresh_expires_at, ends_at, refreshable, rotates, due_at, attempt, class, error, warned_at, created_at, updated_at"
	journalColumns = "fence, lease_until, request_id, kind, renews, sent_at, deadline, answer_key"

	insertConnection = "INSERT INTO connections (id, " + indexedColumns + ", " + plainColumns + ", tokens)" +
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
	updateIndexed    = "UPDATE connections SET (" + indexedColumns + ") = (?, ?, ?, ?, ?) WHERE number = ?"
	updateConnection = "UPDATE connections SET (" + plainColumns + ", tokens)" +
		" = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE number = ?"

	selectColumns    = "SELECT number, id, " + indexedColumns + ", " + plainColumns + ", " + journalColumns
	bothTables       = " FROM connections JOIN journal ON connection = number"
	selectConnection = selectColumns + ", tokens, answer" + bothTables + " WHERE id = ?"
	// listConnections leaves out what is sealed.
	listConnections = selectColumns + ", NULL, NULL" + bothTables
	findConnection  = "SELECT number, fence, generation, " + indexedColumns + bothTables + " WHERE id = ?"
)

// indexedValues are those of indexedColumns.
func indexedValues(c keeper.Connection) []any {
	key, _ := column.Sealed(c.Tokens)
	return []any{c.Provider, c.Tenant, c.Owner, string(c.State), key}
}

// connectionValues are those of plainColumns and the tokens.
func connectionValues(c keeper.Connection) ([]any, error) {
	params, paramsErr := column.Document(c.Params)
	metadata, metadataErr := column.Document(c.Metadata)
	if err := errors.Join(paramsErr, metadataErr); err != nil {
		return nil, fmt.Errorf("sqlite: connection %q cannot be stored: %w", c.ID, err)
	}
	_, tokens := column.Sealed(c.Tokens)
	return []any{
		string(c.Cause), c.Since, string(c.Background), params, metadata, c.Scope.String(), c.Asked.String(), c.TokenType,
		c.Generation, c.IssuedAt, c.ExpiresAt, c.RefreshExpiresAt, c.EndsAt, c.Refreshable, c.Rotates,
		c.DueAt, c.Attempt, string(c.Class), c.Error, c.WarnedAt, c.CreatedAt, c.UpdatedAt, tokens,
	}, nil
}

// journalValues are those of writeJournal.
func journalValues(number int64, leaseUntil time.Time, intent *keeper.Intent) []any {
	if intent == nil {
		return []any{number, leaseUntil, nil, nil, nil, nil, nil, nil, nil}
	}
	key, answer := column.Sealed(intent.Answer)
	return []any{number, leaseUntil, intent.RequestID, string(intent.Kind), intent.Generation, intent.SentAt, intent.Deadline, key, answer}
}

// place is where a connection is, and where it stands.
type place struct {
	number            int64
	fence, generation uint64
	indexed           []any // as indexedValues
}

// find gives the place of a connection, nil where there is none.
func find(conn *driver.Conn, id string) (p *place, err error) {
	err = run(conn, findConnection, func(stmt *driver.Stmt) error {
		row := columns{stmt: stmt}
		p = &place{number: row.integer(), fence: uint64(row.integer()), generation: uint64(row.integer())}
		p.indexed = []any{row.text(), row.text(), row.text(), row.text(), uint32(row.integer())}
		return nil
	}, id)
	return p, err
}

// readConnection reads a row and its number, or gives keeper.ErrNotFound.
func readConnection(conn *driver.Conn, id string) (number int64, c keeper.Connection, err error) {
	found := false
	err = run(conn, selectConnection, func(stmt *driver.Stmt) (err error) {
		found = true
		number, c, err = scanConnection(stmt)
		return err
	}, id)
	if err == nil && !found {
		err = keeper.ErrNotFound
	}
	return number, c, err
}

func scanConnection(stmt *driver.Stmt) (number int64, c keeper.Connection, err error) {
	row := columns{stmt: stmt}
	number = row.integer()
	c = keeper.Connection{
		ID: row.text(), Provider: row.text(), Tenant: row.text(), Owner: row.text(), State: keeper.State(row.text()),
		Tokens: secret.Sealed{KeyID: uint32(row.integer())},
		Cause:  keeper.Cause(row.text()), Since: row.time(), Background: keeper.Background(row.text()),
	}
	params, metadata := row.text(), row.text()
	c.Scope, c.Asked, c.TokenType = column.Scope(row.text()), column.Scope(row.text()), row.text()
	c.Generation, c.IssuedAt, c.ExpiresAt = uint64(row.integer()), row.time(), row.time()
	c.RefreshExpiresAt, c.EndsAt = row.time(), row.time()
	c.Refreshable, c.Rotates = row.integer() != 0, row.integer() != 0
	c.DueAt, c.Attempt, c.Class, c.Error = row.time(), int(row.integer()), provider.Class(row.text()), row.text()
	c.WarnedAt, c.CreatedAt, c.UpdatedAt = row.time(), row.time(), row.time()
	c.Fence, c.LeaseUntil = uint64(row.integer()), row.time()
	open := !row.null()
	intent := keeper.Intent{
		RequestID: row.text(), Kind: provider.Kind(row.text()), Generation: uint64(row.integer()), SentAt: row.time(), Deadline: row.time(),
		Answer: secret.Sealed{KeyID: uint32(row.integer())},
	}
	c.Tokens.Data, intent.Answer.Data = row.bytes(), row.bytes()
	if open {
		c.Intent = &intent
	}
	if c.Params, err = column.ReadDocument[string](params); err == nil {
		c.Metadata, err = column.ReadDocument[any](metadata)
	}
	if err != nil {
		err = fmt.Errorf("sqlite: the row of connection %q is damaged: %w", c.ID, err)
	}
	return number, c, err
}

// columns reads the columns of a row from left to right.
type columns struct {
	stmt *driver.Stmt
	next int
}

func (c *columns) column() int {
	c.next++
	return c.next - 1
}

func (c *columns) text() string    { return c.stmt.ColumnText(c.column()) }
func (c *columns) integer() int64  { return c.stmt.ColumnInt64(c.column()) }
func (c *columns) time() time.Time { return column.Time(c.integer()) }
func (c *columns) bytes() []byte   { return blob(c.stmt, c.column()) }

// null reports whether the next column is NULL, and stays before it.
func (c *columns) null() bool { return c.stmt.ColumnIsNull(c.next) }
