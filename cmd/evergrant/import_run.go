package main

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/evergrant/evergrant"
	"github.com/evergrant/evergrant/internal/foreign"
)

const (
	importBatch    = 1000    // rows at most; the server takes no more
	importHashed   = 100     // of clients: most have a secret that the server hashes for 17 ms
	importBytes    = 1 << 20 // of text in a batch, as long as a row is not longer
	importRow      = 4 << 20 // of text in a row: the server takes no longer one with all its escapes
	importFlights  = 2       // batches on their way
	importPatience = 30 * time.Second
)

// importing is one run of an import.
type importing struct {
	in       *invocation
	admin    *evergrant.Client
	source   *foreign.Source
	flags    importFlags
	patience time.Duration // for a server that does not answer
	readAt   time.Time     // by the server's clock, before the source was read

	mu     sync.Mutex // guards what follows
	report importReport
	live   map[string][]grantID // of the tokens that the source has, by client
	known  map[string]bool      // clients that are on the server, or would be; nil outside of dry runs
}

// grantID is the id of a grant. A million of them are 16 MB.
type grantID [16]byte

func (im *importing) run(ctx context.Context) error {
	im.live = map[string][]grantID{}
	im.report.Source, im.report.Kind = im.source.Name(), im.source.Kind()
	im.report.Profile = im.flags.profileOf(im.source.Kind())
	clients, users, tokens, err := im.source.Count(ctx)
	if err != nil {
		return unreadable(ctx, err)
	}
	if im.flags.dryRun {
		im.known = map[string]bool{}
		ids, err := im.clients(ctx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			im.known[id] = true
		}
	}
	if err := importRows(ctx, im, rowsOf[evergrant.ImportClient]{
		kind: "client", of: clients, most: importHashed, rows: im.source.Clients(ctx),
		size: func(c evergrant.ImportClient) int {
			return len(c.ID+c.Name+c.Secret.Reveal()+string(c.Verifier)+c.Scope) + lengths(c.RedirectURIs) + lengths(c.GrantTypes)
		},
		name: func(c evergrant.ImportClient) string { return c.ID },
		add:  func(b *evergrant.ImportBatch, c evergrant.ImportClient) { b.Clients = append(b.Clients, c) },
	}); err != nil {
		return err
	}
	if err := importRows(ctx, im, rowsOf[evergrant.ImportUser]{
		kind: "user", of: users, most: importBatch, rows: im.source.Users(ctx),
		size: func(u evergrant.ImportUser) int { return len(u.Username) + len(u.Password) + len(u.Info) },
		name: func(u evergrant.ImportUser) string { return u.Username },
		add:  func(b *evergrant.ImportBatch, u evergrant.ImportUser) { b.Users = append(b.Users, u) },
	}); err != nil {
		return err
	}
	if err := importRows(ctx, im, rowsOf[evergrant.ImportToken]{
		kind: "token", of: tokens, most: importBatch, rows: im.source.Tokens(ctx),
		size: func(t evergrant.ImportToken) int { return len(t.Token.Reveal() + t.ClientID + t.Subject + t.Scope) },
		name: func(t evergrant.ImportToken) string { return "of client " + t.ClientID + ", user " + t.Subject },
		add:  func(b *evergrant.ImportBatch, t evergrant.ImportToken) { b.Tokens = append(b.Tokens, t) },
	}); err != nil {
		return err
	}
	im.report.Tokens.Expired += im.source.Expired()
	return im.gone(ctx)
}

// clients are the ids of the clients on the server.
func (im *importing) clients(ctx context.Context) (ids []string, err error) {
	err = im.retry(ctx, func() error {
		ids = nil
		for client, err := range im.admin.Clients(ctx) {
			if err != nil {
				return err
			}
			ids = append(ids, client.ID)
		}
		return nil
	})
	return ids, err
}

// rowsOf are the rows of a kind, and how they go into batches.
type rowsOf[T any] struct {
	kind string
	of   int64 // how many there are
	most int   // in a batch
	rows iter.Seq2[T, error]
	size func(T) int // of its texts, in bytes
	name func(T) string
	add  func(*evergrant.ImportBatch, T)
}

// importRows reads rows and sends them, some batches at a time, until all are on
// the server.
func importRows[T any](ctx context.Context, im *importing, r rowsOf[T]) error {
	f := newFlights(ctx)
	batch, rows, bytes := im.batch(), 0, 0
	send := func() {
		full := batch
		f.start(func(ctx context.Context) error { return im.send(ctx, full) })
		batch, rows, bytes = im.batch(), 0, 0
	}
	read := int64(0)
	for row, err := range r.rows {
		if f.ctx.Err() != nil {
			break
		}
		if read++; read%100 == 0 {
			im.in.progress("%ss: %d of %d", r.kind, read, max(read, r.of))
		}
		if bad, ok := errors.AsType[*foreign.RowError](err); ok {
			im.skip(evergrant.ImportSkip{Kind: bad.Kind, Name: bad.Name, Reason: bad.Reason})
			continue
		}
		if err != nil {
			f.fail(unreadable(ctx, err))
			break
		}
		size := r.size(row)
		if size > importRow {
			im.skip(evergrant.ImportSkip{Kind: r.kind, Name: r.name(row), Reason: "it is longer than 4 MiB"})
			continue
		}
		if rows == r.most || rows > 0 && bytes+size > importBytes {
			send()
		}
		r.add(&batch, row)
		rows, bytes = rows+1, bytes+size
	}
	if rows > 0 {
		send()
	}
	return f.wait()
}

func lengths(texts []string) (n int) {
	for _, text := range texts {
		n += len(text)
	}
	return n
}

// batch is an empty one.
func (im *importing) batch() evergrant.ImportBatch {
	return evergrant.ImportBatch{Source: im.report.Source, Profile: im.report.Profile, DryRun: im.flags.dryRun, Revive: im.flags.revive}
}

// send has the server take a batch over, and counts what became of it.
func (im *importing) send(ctx context.Context, batch evergrant.ImportBatch) error {
	if im.known != nil {
		batch.Tokens = im.withClient(batch.Tokens)
	}
	var answer evergrant.ImportReport
	err := im.retry(ctx, func() (err error) {
		answer, err = im.admin.Import(ctx, batch)
		return err
	})
	if err != nil {
		return err
	}
	ids := make([]grantID, len(batch.Tokens))
	for i := range min(len(ids), len(answer.IDs)) {
		hex.Decode(ids[i][:], []byte(answer.IDs[i])) // "" is the zero id
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	for i, id := range ids {
		if client := batch.Tokens[i].ClientID; id != (grantID{}) {
			im.live[client] = append(im.live[client], id)
		}
	}
	if im.known != nil {
		for _, c := range batch.Clients {
			im.known[c.ID] = true
		}
		for _, skipped := range answer.Skipped {
			if skipped.Kind == "client" && !skipped.Part {
				delete(im.known, skipped.Name)
			}
		}
	}
	im.report.add(answer)
	return nil
}

// withClient leaves out the tokens whose client a real run would not find. A dry
// run creates no client, so that the server cannot tell.
func (im *importing) withClient(tokens []evergrant.ImportToken) (found []evergrant.ImportToken) {
	for _, t := range tokens {
		im.mu.Lock()
		known := im.known[t.ClientID]
		im.mu.Unlock()
		if known {
			found = append(found, t)
			continue
		}
		im.skip(evergrant.ImportSkip{Kind: "token", Name: "of client " + t.ClientID + ", user " + t.Subject, Reason: importNoClient})
	}
	return found
}

func (im *importing) skip(s evergrant.ImportSkip) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.report.skip(s)
}

// retry makes a call until it is answered. A batch that is there already is not
// taken over again, so that it does not matter which of two was answered.
func (im *importing) retry(ctx context.Context, call func() error) error {
	end := im.in.now().Add(im.patience)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := call()
		if err == nil || !passing(err) && ctx.Err() == nil {
			return err
		}
		if ctx.Err() == nil && im.in.now().Add(wait).Before(end) {
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return unreadable(ctx, err)
		}
		return &failure{exitUnavailable, failureOf(err).what, "look whether the server is well, and run it again: it goes on where it stopped"}
	}
}

// passing reports whether an error may be gone in a moment.
func passing(err error) bool {
	if errors.Is(err, evergrant.ErrUnreachable) {
		return true
	}
	problem, ok := errors.AsType[*evergrant.Problem](err)
	if !ok {
		return false
	}
	switch problem.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// flights are batches on their way, some at a time. The first error ends all.
type flights struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	slots chan struct{}
	work  sync.WaitGroup
}

func newFlights(ctx context.Context) *flights {
	f := &flights{slots: make(chan struct{}, importFlights)}
	f.ctx, f.end = context.WithCancelCause(ctx)
	return f
}

// start waits until one more may be on its way.
func (f *flights) start(do func(context.Context) error) {
	select {
	case f.slots <- struct{}{}:
	case <-f.ctx.Done():
	}
	if f.ctx.Err() != nil {
		return
	}
	f.work.Go(func() {
		defer func() { <-f.slots }()
		if err := do(f.ctx); err != nil {
			f.fail(err)
		}
	})
}

func (f *flights) fail(err error) { f.end(err) }

// wait waits for all that were started, and returns the first error.
func (f *flights) wait() error {
	f.work.Wait()
	err := context.Cause(f.ctx)
	f.end(nil)
	if errors.Is(err, context.Canceled) {
		return unreadable(f.ctx, err)
	}
	return err
}
