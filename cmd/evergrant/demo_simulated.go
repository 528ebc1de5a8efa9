package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
)

// The app that is registered at all simulated providers, and the secret of its
// webhook. They are no secrets: they are printed.
const (
	simClient      = "sim-client"
	simSecret      = "sim-secret"
	demoHookSecret = "DemoHookSecret"
)

// Lifetimes of access tokens at the simulated providers. The keeper refreshes
// when a quarter of them is left, or up to a tenth earlier.
const (
	shortLife = 6 * time.Second
	// outageLife leaves 14 s from the first refresh that fails to the end of the
	// token. A provider that was found down is tried again within 5 s.
	outageLife = 40 * time.Second
	// crashLife has a refresh due about when the lease of a process ends that was
	// killed at the beginning of that life: 10 s and the timeout of a request.
	crashLife = 18 * time.Second
	calmLife  = time.Minute // after the tour
)

// eventixAtOnce is how many requests at once Eventix bears.
const eventixAtOnce = 16

// simulated are the providers of the demo. They run in this process, each at an
// address of its own, and speak as the providers do. Like Eventix itself, its
// simulator has its authorization server and its API at different hosts.
type simulated struct {
	tink, eventix, flexiti          *providertest.Simulator
	tinkURL, flexitiURL, eventixAPI string
	eventixAuth                     *host
	stops                           []func()
}

// newSimulator makes a simulator whose owners consent at once.
func newSimulator(dialect providertest.Dialect, life time.Duration) *providertest.Simulator {
	dialect.AccessLife = life
	return providertest.New(dialect, providertest.Options{ClientID: simClient, ClientSecret: simSecret, Consent: providertest.Allow})
}

// simulate starts the providers of the demo. Tink is one that gives this app no
// refresh tokens.
func simulate() (*simulated, error) {
	tink := providertest.Tink()
	tink.Rotation = provider.RotationNone
	s := &simulated{
		tink: newSimulator(tink, shortLife), eventix: newSimulator(providertest.Eventix(), shortLife), flexiti: newSimulator(providertest.Flexiti(), shortLife),
	}
	// As all that is far away, Eventix takes a moment to answer.
	s.eventix.Inject(providertest.Rule{Fault: providertest.Fault{Latency: 25 * time.Millisecond}})
	var err error
	if s.eventixAuth, err = newHost(s.eventix); err != nil {
		return nil, err
	}
	s.stops = append(s.stops, s.eventixAuth.close)
	s.tinkURL, s.flexitiURL, s.eventixAPI = s.listen(s.tink), s.listen(s.flexiti), s.listen(s.eventix)
	return s, nil
}

func (s *simulated) listen(h http.Handler) string {
	url, stop := providertest.Listen(h)
	s.stops = append(s.stops, stop)
	return url
}

func (s *simulated) stop() {
	for _, stop := range s.stops {
		stop()
	}
	s.stops = nil
}

// setLife changes how long new access tokens of a simulator live.
func setLife(s *providertest.Simulator, life time.Duration) {
	s.Change(func(d *providertest.Dialect) { d.AccessLife = life })
}

// calm lets everything live longer, for a server that stays up, and has owners
// asked who come with a browser.
func (s *simulated) calm() {
	for _, sim := range []*providertest.Simulator{s.tink, s.eventix, s.flexiti} {
		setLife(sim, calmLife)
		sim.SetConsent(providertest.Ask)
	}
}

// tinkConfig registers an app at a simulated Tink, by the shipped definition
// with other addresses.
const tinkConfig = `    - name: tink
      definition: tink
      client_id: ` + simClient + `
      client_secret: ` + simSecret + `
      token_url: %[1]s/token
      remint:
        steps:
          - {grant_type: client_credentials, params: {scope: "authorization:grant"}, save: {client_token: access_token}}
          - url: %[1]s/authorization-grant
            headers: {Authorization: "Bearer {saved.client_token}"}
            params: {external_user_id: "{owner}", scope: "{scope}"}
            save: {code: code}
          - {grant_type: authorization_code, params: {code: "{saved.code}", redirect_uri: null}}
      api: {base_url: %[1]s/api}
      limits: {timeout: 3s}
`

const othersConfig = `    - name: eventix
      definition: eventix
      client_id: ` + simClient + `
      client_secret: ` + simSecret + `
      authorize_url: %[1]s/authorize
      token_url: %[1]s/token
      authorize: {params: {login_hint: "{owner}"}}
      api: {base_url: %[2]s/api}
      limits: {concurrency: %[5]d, rate: {count: 500, per: 1s}}
    - name: flexiti
      definition: flexiti
      client_id: ` + simClient + `
      client_secret: ` + simSecret + `
      token_url: %[3]s/token
      api: {base_url: %[3]s/api}
  webhooks:
    - {name: shop, url: %[4]s, secret: ` + demoHookSecret + `, events: [connection.reauthorize, connection.recovered]}
`

const keeperConfigHead = `keeper:
  allow_private_networks: true
  providers:
`

// config is the keeper's part of the demo's configuration file, with the URL of
// the application's webhook.
func (s *simulated) config(hook string) string {
	return keeperConfigHead + fmt.Sprintf(tinkConfig, s.tinkURL) +
		fmt.Sprintf(othersConfig, s.eventixAuth.url, s.eventixAPI, s.flexitiURL, hook, eventixAtOnce)
}

// host serves a handler at an address that stays the same while it is down.
type host struct {
	url, address string
	handler      http.Handler
	server       *http.Server
	done         chan struct{}
}

// newHost finds a port below those that systems give to whoever wants any, so
// that nobody takes it while the host is down.
func newHost(h http.Handler) (made *host, err error) {
	for range 100 {
		made = &host{address: fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)), handler: h}
		made.url = "http://" + made.address
		if err = made.up(); err == nil {
			return made, nil
		}
	}
	return nil, fmt.Errorf("no port for a simulated provider: %w", err)
}

func (h *host) up() error {
	listener, err := net.Listen("tcp", h.address)
	if err != nil {
		return err
	}
	h.server, h.done = &http.Server{Handler: h.handler, ReadHeaderTimeout: time.Minute}, make(chan struct{})
	go func() {
		defer close(h.done)
		_ = h.server.Serve(listener) // until it is down
	}()
	return nil
}

// down has connections refused. What is being answered is answered first.
func (h *host) down(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	<-h.done
	return err
}

func (h *host) close() {
	h.server.Close()
	<-h.done
}
