package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Mode is what the virtual clients ask of the server.
type Mode string

const (
	// Refresh renews each client's own grant again and again (RFC 6749, section 6).
	Refresh Mode = "refresh"
	// Introspect asks about each client's own access token (RFC 7662).
	Introspect Mode = "introspect"
	// ClientCredentials gets access tokens for the client itself (RFC 6749, section 4.4).
	ClientCredentials Mode = "client_credentials"
	// Echo sends what a refresh would send and takes any answer with status 200.
	Echo Mode = "echo"
)

// Load describes a closed-loop load: every virtual client sends its next
// request when the answer to its last one has come.
type Load struct {
	// Addresses are hosts and ports of the server, or of several that are one to
	// their clients, which are spread over them evenly.
	Addresses []string
	// Path is where requests go, "" for Evergrant's paths.
	Path string
	// Mode is the kind of request.
	Mode Mode
	// Clients is the number of virtual clients, each with its own connection.
	Clients int
	// ClientID is sent as client_id where no Authorization is.
	ClientID string
	// Authorization is the value of that header, "" for none.
	Authorization string
	// Tokens has as many tokens for each virtual client, which uses its own in
	// turn: refresh tokens for Refresh and Echo, access tokens for Introspect, none
	// for ClientCredentials.
	Tokens []string
	// Patience is how long an answer may take before it counts as an error,
	// 30 s where it is 0.
	Patience time.Duration
}

// Result is what one Run saw.
type Result struct {
	Requests int           // answered as expected
	Errors   int           // refused, not rotated, malformed, or not answered
	Failure  string        // what was wrong with the first of them; holds no token
	Elapsed  time.Duration // from the first request to the last answer
	P50, P99 time.Duration // of the requests that were answered as expected
}

// Rate is the number of expected answers per second.
func (r Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests) / r.Elapsed.Seconds()
}

// Generator keeps the connections and token chains of a load between runs.
type Generator struct {
	clients  []*client
	patience time.Duration
}

// Dial connects all virtual clients. Close ends the connections.
func Dial(ctx context.Context, load Load) (*Generator, error) {
	switch load.Mode {
	case Refresh, Introspect, Echo:
		if len(load.Tokens) < load.Clients || len(load.Tokens)%max(load.Clients, 1) != 0 {
			return nil, fmt.Errorf("%d tokens for %d clients", len(load.Tokens), load.Clients)
		}
	case ClientCredentials:
	default:
		return nil, fmt.Errorf("unknown mode %q", load.Mode)
	}
	if load.Clients < 1 || len(load.Addresses) < 1 {
		return nil, errors.New("a load needs at least one client and one address")
	}
	g := &Generator{patience: cmp.Or(load.Patience, 30*time.Second)}
	each := len(load.Tokens) / load.Clients
	for i := range load.Clients {
		c := newClient(load, load.Addresses[i%len(load.Addresses)])
		c.take(load.Tokens[i*each : (i+1)*each])
		g.clients = append(g.clients, c)
		if err := c.dial(ctx); err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

// Run loads the server for the given time and then waits for the answers that
// are still out. The chains of tokens go on in the next Run. It ends early with
// the context's error.
func (g *Generator) Run(ctx context.Context, length time.Duration) (Result, error) {
	start := time.Now()
	stop := start.Add(length)
	defer context.AfterFunc(ctx, func() {
		for _, c := range g.clients {
			c.interrupt()
		}
	})()
	var running sync.WaitGroup
	for _, c := range g.clients {
		running.Go(func() { c.loop(ctx, stop, g.patience) })
	}
	running.Wait()
	return g.collect(time.Since(start)), ctx.Err()
}

func (g *Generator) collect(elapsed time.Duration) Result {
	result := Result{Elapsed: elapsed}
	var latencies []time.Duration
	for _, c := range g.clients {
		latencies = append(latencies, c.latencies...)
		result.Errors += c.errors
		if c.failure != nil && result.Failure == "" {
			result.Failure = c.failure.Error()
		}
	}
	slices.Sort(latencies)
	result.Requests = len(latencies)
	result.P50 = Quantile(latencies, 500)
	result.P99 = Quantile(latencies, 990)
	return result
}

// Quantile answers the smallest of the sorted values that at least so many of
// a thousand do not exceed, 0 where there are none.
func Quantile(sorted []time.Duration, perMille int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*perMille+999)/1000-1]
}

// Close ends all connections.
func (g *Generator) Close() {
	for _, c := range g.clients {
		c.close()
	}
}
