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
	clients  *clientCache
	verified *verifiedSecrets
	failures *throttle
	outage   outage
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
		policy:   cfg.Policy.Over(DefaultPolicy()),
		verified: newVerifiedSecrets(),
		failures: newThrottle(cfg.clock),
		noted:    newThrottle(cfg.clock),
		hashing:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		mux:      http.NewServeMux(),
	}
	s.clients = newClientCache(cfg.Store, s.policy, cfg.clock)
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
	s.mux.HandleFunc(TokenPath, s.tokenEndpoint(s.token))
	s.mux.HandleFunc(RevokePath, s.tokenEndpoint(s.revoke))
	s.mux.HandleFunc(IntrospectPath, s.tokenEndpoint(s.introspect))
	s.mux.HandleFunc("GET "+JWKSPath, s.serveJWKS)
	s.mux.HandleFunc("GET "+MetadataPath, s.serveMetadata)
	s.mux.HandleFunc(AuthorizePath, s.serveAuthorize)
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

// Run purges in the background and takes over keys that other processes have
// added, until the context ends. It returns nil then, and never before.
func (s *Server) Run(ctx context.Context) error {
	purge, reload := time.NewTicker(purgeInterval), time.NewTicker(reloadInterval)
	defer purge.Stop()
	defer reload.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
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
