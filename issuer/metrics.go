package issuer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what became of a refresh.
type outcome string

const (
	outcomeRotated outcome = "rotated"
	outcomeRetried outcome = "retried"
	outcomeHealed  outcome = "healed"
	outcomeKept    outcome = "kept" // by policy not rotated
	outcomeReused  outcome = "reused"
)

// metrics counts what the server does. Labels are few and never secret.
type metrics struct {
	tokens    *prometheus.HistogramVec
	refreshes *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	purged    *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		tokens: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "evergrant_token_seconds",
			Help:    "Time to answer successful token requests, by grant type.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"grant_type"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evergrant_refreshes_total",
			Help: "Refresh requests with a genuine token, by outcome: rotated, retried, healed, kept, reused.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evergrant_refusals_total",
			Help: "Refused requests, by endpoint and OAuth error code.",
		}, []string{"endpoint", "code"}),
		purged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evergrant_purged_rows_total",
			Help: "Rows deleted because they were dead.",
		}, []string{"table"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.tokens, m.refreshes, m.refusals, m.purged} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) issued(grantType string, took time.Duration) {
	m.tokens.WithLabelValues(grantType).Observe(took.Seconds())
}

func (m *metrics) refresh(o outcome) { m.refreshes.WithLabelValues(string(o)).Inc() }

func (m *metrics) refused(endpoint, code string) { m.refusals.WithLabelValues(endpoint, code).Inc() }

func (m *metrics) purge(p Purged) {
	m.purged.WithLabelValues("grants").Add(float64(p.Grants))
	m.purged.WithLabelValues("revoked_access_tokens").Add(float64(p.AccessTokens))
	m.purged.WithLabelValues("events").Add(float64(p.Events))
}
