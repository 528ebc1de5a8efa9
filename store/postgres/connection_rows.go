package postgres

import (
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/secret"
	"github.com/evergrant/evergrant/store/column"
	"github.com/jackc/pgx/v5"
)

const (
	connectionColumns = "provider, tenant, owner, state, key_id, cause, since, background, params, metadata, scope, asked, token_type, generation," +
		" issued_at, expires_at, refresh_expires_at, ends_at, refreshable, rotates, due_at, attempt, class, error, warned_at, created_at, updated_at, tokens"
	intentColumns = "request_id, kind, renews, sent_at, deadline, answer_key, answer"

	// openColumns are those of both tables but for what is sealed.
	openColumns = "id, provider, tenant, owner, state, key_id, cause, since, background, params, metadata, scope, asked, token_type, generation," +
		" issued_at, expires_at, refresh_expires_at, ends_at, refreshable, rotates, due_at, attempt, class, error, warned_at, created_at, updated_at," +
		" fence, lease_until, request_id, kind, renews, sent_at, deadline, answer_key"
	rowColumns = openColumns + ", tokens, answer"
	bothTables = " FROM connections JOIN journal ON connection = id"

	selectConnection = "SELECT " + rowColumns + bothTables + " WHERE id = $1"
	// listConnections leaves out what is sealed.
	listConnections = "SELECT " + openColumns + ", NULL::bytea, NULL::bytea" + bothTables
)

// connectionArgs are the arguments for connectionColumns. A text that came from
// a provider or an application may hold what PostgreSQL refuses.
func connectionArgs(c keeper.Connection) ([]any, error) {
	params, paramsErr := column.Document(c.Params) // JSON has neither a NUL nor what is not UTF-8
	metadata, metadataErr := column.Document(c.Metadata)
	if err := errors.Join(paramsErr, metadataErr); err != nil {
		return nil, fmt.Errorf("postgres: connection %q cannot be stored: %w", c.ID, err)
	}
	key, tokens := column.Sealed(c.Tokens)
	return []any{
		clean(c.Provider), clean(c.Tenant), clean(c.Owner), clean(string(c.State)), int64(key),
		clean(string(c.Cause)), column.Millis(c.Since), clean(string(c.Background)), params, metadata,
		clean(c.Scope.String()), clean(c.Asked.String()), clean(c.TokenType), int64(c.Generation),
		column.Millis(c.IssuedAt), column.Millis(c.ExpiresAt), column.Millis(c.RefreshExpiresAt), column.Millis(c.EndsAt),
		c.Refreshable, c.Rotates, column.Millis(c.DueAt), int64(c.Attempt), clean(string(c.Class)), clean(c.Error),
		column.Millis(c.WarnedAt), column.Millis(c.CreatedAt), column.Millis(c.UpdatedAt), tokens,
	}, nil
}

// intentArgs are the arguments for intentColumns. The key is NULL until there is
// an answer, so that storing and closing an intent leaves its index alone.
func intentArgs(intent *keeper.Intent) []any {
	if intent == nil {
		return make([]any, 7)
	}
	args := []any{clean(intent.RequestID), clean(string(intent.Kind)), int64(intent.Generation), column.Millis(intent.SentAt), column.Millis(intent.Deadline), nil, nil}
	if !intent.Answer.Empty() {
		args[5], args[6] = int64(intent.Answer.KeyID), intent.Answer.Data
	}
	return args
}

// sealingKeys are the keys under which a row is sealed.
func sealingKeys(c *keeper.Connection) []int64 {
	keys := []int64{}
	if !c.Tokens.Empty() && c.Tokens.KeyID > 0 {
		keys = append(keys, int64(c.Tokens.KeyID))
	}
	if c.Intent != nil && !c.Intent.Answer.Empty() && c.Intent.Answer.KeyID > 0 {
		keys = append(keys, int64(c.Intent.Answer.KeyID))
	}
	return keys
}

// scanConnection reads rowColumns.
func scanConnection(row pgx.CollectableRow) (c keeper.Connection, err error) {
	var params, metadata, scope, asked string
	var key, generation, fence int64
	var since, issued, expires, refreshExpires, ends, due, warned, created, updated, leaseUntil int64
	var requestID, kind *string
	var renews, sent, deadline, answerKey *int64
	var answer []byte
	err = row.Scan(
		&c.ID, &c.Provider, &c.Tenant, &c.Owner, (*string)(&c.State), &key, (*string)(&c.Cause), &since, (*string)(&c.Background),
		&params, &metadata, &scope, &asked, &c.TokenType, &generation,
		&issued, &expires, &refreshExpires, &ends, &c.Refreshable, &c.Rotates, &due, &c.Attempt, (*string)(&c.Class), &c.Error, &warned, &created, &updated,
		&fence, &leaseUntil, &requestID, &kind, &renews, &sent, &deadline, &answerKey, &c.Tokens.Data, &answer,
	)
	if err != nil {
		return c, err
	}
	c.Tokens.KeyID, c.Generation, c.Fence = uint32(key), uint64(generation), uint64(fence)
	c.Scope, c.Asked = column.Scope(scope), column.Scope(asked)
	c.Since, c.IssuedAt, c.ExpiresAt = column.Time(since), column.Time(issued), column.Time(expires)
	c.RefreshExpiresAt, c.EndsAt, c.DueAt = column.Time(refreshExpires), column.Time(ends), column.Time(due)
	c.WarnedAt, c.CreatedAt, c.UpdatedAt = column.Time(warned), column.Time(created), column.Time(updated)
	c.LeaseUntil = column.Time(leaseUntil)
	if requestID != nil {
		c.Intent = &keeper.Intent{
			RequestID: *requestID, Kind: provider.Kind(or(kind)), Generation: uint64(or(renews)),
			SentAt: column.Time(or(sent)), Deadline: column.Time(or(deadline)),
			Answer: secret.Sealed{KeyID: uint32(or(answerKey)), Data: answer},
		}
	}
	return c, readDocuments(&c, params, metadata)
}

func readDocuments(c *keeper.Connection, params, metadata string) (err error) {
	if c.Params, err = column.ReadDocument[string](params); err == nil {
		c.Metadata, err = column.ReadDocument[any](metadata)
	}
	if err != nil {
		return fmt.Errorf("postgres: the row of connection %q is damaged: %w", c.ID, err)
	}
	return nil
}

// or is what a column holds, the zero value where it is NULL.
func or[T any](value *T) (v T) {
	if value != nil {
		v = *value
	}
	return v
}
