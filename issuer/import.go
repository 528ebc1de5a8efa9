package issuer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// Origin says that an import put a client or user there, and what it was then:
// a digest of the other server's row.
type Origin struct {
	Source string `json:"source"`
	Digest string `json:"digest"`
}

// Importer stores what comes from another server.
type Importer interface {
	// Import stores a batch in one step, or with DryRun nothing, and counts what
	// it did, or would do. A client or user that is not there is created. One that
	// has the batch's Origin is unchanged; one of the same source with another
	// digest is replaced, its CreatedAt kept; any other is kept as it is, and
	// named. A grant that is not there is created, any other is unchanged. The
	// event is recorded if anything was created or replaced.
	Import(ctx context.Context, batch Batch) (Imported, error)
}

// Batch is a part of what is imported. Clients and users have an Origin.
type Batch struct {
	Clients []Client
	Users   []User
	Grants  []Grant
	Event   Event
	DryRun  bool
}

// Imported counts what became of a batch.
type Imported struct {
	Clients ImportCount `json:"clients"`
	Users   ImportCount `json:"users"`
	Grants  ImportCount `json:"tokens"`
}

// ImportCount counts rows.
type ImportCount struct {
	Created   int      `json:"created"`
	Updated   int      `json:"updated"`
	Unchanged int      `json:"unchanged"`
	Kept      []string `json:"kept,omitempty"` // names of those that were changed here since, or are not of this source
}

// Import is what another server has of clients, users and tokens, or a part of
// it. Tokens come with their clients or after them.
type Import struct {
	Source  string // names the server: 1 to 255 bytes of text, the same at each run
	Profile string // of the clients that are created; the server's where empty
	Clients []ImportClient
	Users   []ImportUser
	Tokens  []ImportToken
	DryRun  bool
	Revive  bool // take refresh tokens, too, that may have ended here since an earlier import

	// Registry is locked while a client that is here already is read, changed and
	// written back, as it must be by all who do. It may be nil.
	Registry sync.Locker
}

// ImportClient is a client of another server. One with neither Secret nor
// Verifier is public.
type ImportClient struct {
	ID, Name     string
	Secret       secret.Text     // in clear, as many servers keep it
	Verifier     secret.Verifier // or what that server verifies it with
	RedirectURIs []string
	GrantTypes   []string // authorization_code and refresh_token where empty
	Scopes       oauth.Scope
	Trusted      bool
}

// ImportUser is a user of another server.
type ImportUser struct {
	Username string
	Password secret.Verifier // what that server verifies the password with
	Info     []byte          // a JSON object, see [User.Info]
}

// ImportToken is a refresh or access token of another server, in clear. Only a
// keyed digest of it is stored: the id of its grant.
type ImportToken struct {
	Access    bool // an access token
	Token     secret.Text
	ClientID  string
	Subject   string // user name; the client's id where empty
	Scope     oauth.Scope
	IssuedAt  time.Time // zero where it is not known
	ExpiresAt time.Time // zero for a refresh token that never does
}

// ImportReport says what became of an import.
type ImportReport struct {
	Imported
	Skipped []ImportSkip `json:"skipped"`
	// IDs are those of the tokens' grants, in the order of the tokens, those that
	// were skipped among them; the zero id for an empty token.
	IDs []GrantID `json:"ids"`
	// UnknownScopes are scopes of clients and tokens that the server's
	// configuration does not have. Who has them keeps them; nobody else gets them.
	UnknownScopes []string  `json:"unknown_scopes"`
	At            time.Time `json:"at"` // by the server's clock
}

// ImportSkip is something that was not imported, or not all of it.
type ImportSkip struct {
	Kind   string `json:"kind"` // client, user or token
	Name   string `json:"name"` // its id or name; of a token its client and user
	Reason string `json:"reason"`
	Part   bool   `json:"part,omitempty"` // the rest of it was imported
}

// Reasons for which tokens are skipped, that programs may count.
const (
	ImportExpired  = "it has expired"
	ImportNoClient = "its client is not here"
	ImportEnded    = "it may have ended here since an earlier import, whose client has come, and there is no trace of it any more; revive takes it all the same"
)

// ErrBadImport is wrapped by errors about an import as a whole.
var ErrBadImport = errors.New("bad import")

// Import takes over what another server has, so that its tokens go on here. It
// can be repeated: what is there is left, but for clients and users that the
// other server has changed and this one has not.
//
// The id of a token's grant is a keyed digest of the token, so that a token finds
// its grant without being stored, and the same token is never two grants. An
// imported refresh token is its grant's generation 1.
//
// The error wraps ErrBadImport, or is the store's.
func (a *Admin) Import(ctx context.Context, actor Actor, in Import) (ImportReport, error) {
	if err := checkSource(in.Source); err != nil {
		return ImportReport{}, err
	}
	if _, ok := a.server.cfg.Profiles[in.Profile]; !ok && in.Profile != "" {
		return ImportReport{}, fmt.Errorf("%w: there is no profile %q; write one of %s", ErrBadImport, in.Profile,
			strings.Join(slices.Sorted(maps.Keys(a.server.cfg.Profiles)), ", "))
	}
	i := &importing{Admin: a, Import: in, actor: actor, clients: map[string]Client{}, unknown: map[string]bool{}}
	i.batch = Batch{DryRun: in.DryRun, Event: a.event(actor, EventImported)}
	i.report = ImportReport{Skipped: []ImportSkip{}, IDs: make([]GrantID, len(in.Tokens)), At: i.batch.Event.At}
	for _, c := range in.Clients {
		if err := i.client(ctx, c); err != nil {
			return i.report, err
		}
	}
	if err := i.hash(ctx); err != nil {
		return i.report, err
	}
	for _, u := range in.Users {
		i.user(u)
	}
	for n, t := range in.Tokens {
		if err := i.token(ctx, n, t); err != nil {
			return i.report, err
		}
	}
	i.report.UnknownScopes = append([]string{}, slices.Sorted(maps.Keys(i.unknown))...)
	i.batch.Event.Detail = fmt.Sprintf("from %s: %d clients, %d users, %d tokens", in.Source, len(i.batch.Clients), len(i.batch.Users), len(i.batch.Grants))
	var err error
	i.report.Imported, err = a.server.cfg.Store.Import(ctx, i.batch)
	for _, c := range i.batch.Clients {
		a.server.clients.forget(c.ID)
	}
	return i.report, err
}

func checkSource(source string) error {
	if source == "" || !validText(source) || len(source) > maxIDLength {
		return fmt.Errorf("%w: the source must be 1 to 255 bytes of UTF-8 without control characters", ErrBadImport)
	}
	return nil
}
