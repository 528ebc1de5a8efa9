package issuer

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// Server is an authorization server. It is an http.Handler for the endpoints,
// whose paths are [TokenPath] and its neighbours, and safe for concurrent use.
type Server struct {
	cfg      Config
	policy   Policy
	profile  *Profile // the server's
	standard *Profile
	clients  *clientCache
	verified *verifiedSecrets
	failures *throttle
	outage   outage
	uses     uses
	noted    *throttle // limits events about tokens that are no longer good
	hashing  chan struct{}
	metrics  *metrics
	mux      *http.ServeMux
}

// New makes a server. The error says what is missing in the configuration, or
// is the store's.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		policy:   cfg.PolicyOf(Client{}),
		profile:  cfg.profile(),
		standard: &Profile{},
		verified: newVerifiedSecrets(),
		failures: newThrottle(cfg.clock),
		noted:    newThrottle(cfg.clock),
		uses:     uses{waiting: map[useKey]Use{}},
		hashing:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		mux:      http.NewServeMux(),
	}
	s.clients = newClientCache(cfg)
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.ensureAlgorithm(ctx, s.policy.SigningAlg); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

// ensureAlgorithm adds a key that can sign RS256 where one is needed and the
// current key cannot. It is used at once: until then no token has that
// algorithm that a resource server could fail to verify.
func (s *Server) ensureAlgorithm(ctx context.Context, alg secret.Algorithm) error {
	if alg == "" {
		return nil
	}
	var err error
	for range 3 { // a further round needs another process that was faster, perhaps to the same end
		if _, err := s.cfg.Keys.Current().Signer(alg); err == nil {
			return nil
		}
		if _, err = s.cfg.Keys.Rotate(ctx, 0, true); !errors.Is(err, secret.ErrKeyExists) {
			return err
		}
		if err := s.cfg.Keys.Reload(ctx); err != nil {
			return err
		}
	}
	return err
}

// Paths of the endpoints, below the issuer's URL.
const (
	AuthorizePath    = "/oauth/authorize"
	TokenPath        = "/oauth/token"
	RevokePath       = "/oauth/revoke"
	IntrospectPath   = "/oauth/introspect"
	JWKSPath         = "/oauth/jwks"
	MetadataPath     = "/.well-known/oauth-authorization-server"
	contentTypeJSON  = "application/json"
	maxBody          = 64 << 10 // bytes; the largest request known is a few kilobytes
	jwksMaxAgeSecond = "300"
)

func (s *Server) routes() {
	s.route(endpoint{serve: s.token, path: TokenPath, own: func(p *Profile) string { return p.TokenPath }, query: true, method: CauseMethod})
	s.route(endpoint{serve: s.revoke, path: RevokePath, own: func(p *Profile) string { return p.RevokePath }, token: true, method: CauseRevocationMethod})
	s.route(endpoint{serve: s.introspect, path: IntrospectPath, method: CauseMethod})
	s.mux.HandleFunc("GET "+JWKSPath, s.serveJWKS)
	s.mux.HandleFunc("GET "+MetadataPath, s.serveMetadata)
	s.routeAuthorize()
}

// ServeHTTP serves the endpoints and answers 404 elsewhere.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Issuer is the issuer identifier.
func (s *Server) Issuer() string { return s.cfg.Issuer }

// How often the background work of Run happens.
const (
	purgeInterval  = time.Minute
	reloadInterval = 15 * time.Second
	// purgeMargin keeps a grant that has just expired, for replicas whose clocks
	// are behind.
	purgeMargin = time.Minute
)

// Run purges in the background, stores what was counted and takes over keys that
// other processes have added, until the context ends. It returns nil then, and
// never before.
func (s *Server) Run(ctx context.Context) error {
	purge, reload, count := time.NewTicker(purgeInterval), time.NewTicker(reloadInterval), time.NewTicker(usesInterval)
	defer purge.Stop()
	defer reload.Stop()
	defer count.Stop()
	for {
		select {
		case <-ctx.Done():
			s.keepUses(context.WithoutCancel(ctx))
			return nil
		case <-count.C:
			s.keepUses(ctx)
		case <-purge.C:
			before := s.cfg.now().Add(-purgeMargin)
			purged, err := s.cfg.Store.Purge(ctx, before, before.Add(-s.cfg.eventRetention()))
			s.metrics.purge(purged)
			if err != nil && ctx.Err() == nil {
				s.cfg.log().Error("purge failed; it goes on in a minute", "error", err)
			}
		case <-reload.C:
			if err := s.cfg.Keys.Reload(ctx); err != nil && ctx.Err() == nil {
				s.cfg.log().Error("keys were not reloaded; the known ones stay in force", "error", err)
			}
		}
	}
}
