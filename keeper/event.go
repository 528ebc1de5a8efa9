package keeper

import (
	"time"

	"github.com/evergrant/evergrant/provider"
)

// Event types. Those of a provider have no connection.
const (
	EventCreated         = "connection.created"
	EventConnected       = "connection.connected" // its owner came back from the provider
	EventRefreshed       = "connection.refreshed"
	EventReminted        = "connection.reminted"
	EventFailed          = "connection.refresh_failed" // the first of a series, and each change of its class
	EventInDoubt         = "connection.in_doubt"
	EventRecovered       = "connection.recovered" // from in_doubt, reauthorize or a series of failures
	EventReauthorize     = "connection.reauthorize"
	EventExpiring        = "connection.expiring" // an end that no refresh moves comes near
	EventScopeChanged    = "connection.scope_changed"
	EventRotationChanged = "connection.rotation_changed" // the provider rotates a token that its definition calls fixed
	EventPaused          = "connection.paused"
	EventResumed         = "connection.resumed"
	EventDeleted         = "connection.deleted"
	EventProviderDown    = "provider.down"
	EventProviderUp      = "provider.up"
	EventBadClient       = "provider.bad_client"
	EventBadDefinition   = "provider.bad_definition"
	EventResealed        = "key.resealed"
)

// Event is one entry of the log: what happened to a connection or provider,
// and why. It never holds a token or another secret.
type Event struct {
	ID         int64          `json:"id"` // given by the store; grows
	At         time.Time      `json:"at"`
	Type       string         `json:"type"`
	Connection string         `json:"connection,omitempty"`
	Provider   string         `json:"provider,omitempty"`
	Tenant     string         `json:"tenant,omitempty"`
	Owner      string         `json:"owner,omitempty"`
	Generation uint64         `json:"generation,omitempty"`
	Class      provider.Class `json:"class,omitempty"`
	Cause      Cause          `json:"cause,omitempty"`
	Actor      string         `json:"actor"` // "keeper", "operator", "owner" or "client:ID"
	Address    string         `json:"address,omitempty"`
	Detail     string         `json:"detail,omitempty"` // for people
}
