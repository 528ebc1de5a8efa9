package keeper

import (
	"github.com/evergrant/evergrant/provider"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what a keeper does. Labels are few and never secret.
type metrics struct {
	renewals *prometheus.CounterVec
	failures *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evergrant_keeper_renewals_total",
			Help: "Answers with tokens that were committed, by provider and kind: refresh, remint, client_credentials, exchange.",
		}, []string{"provider", "kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evergrant_keeper_failures_total",
			Help: "Requests to providers that gave no tokens, by provider and class.",
		}, []string{"provider", "class"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.renewals, m.failures} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) refreshed(name string, kind provider.Kind) {
	m.renewals.WithLabelValues(name, string(kind)).Inc()
}

func (m *metrics) failed(name string, class provider.Class) {
	m.failures.WithLabelValues(name, string(class)).Inc()
}
