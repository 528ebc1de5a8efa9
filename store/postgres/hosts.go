package postgres

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// hosts makes the server that was connected to last the first of several that is
// tried. The order of the connection string would have each new connection wait
// for a server that is gone without a word, and would go back to one that is a
// primary no more and does not know it.
type hosts struct{ last atomic.Pointer[string] }

// connected notes where a connection leads.
func (h *hosts) connected(conn *pgx.Conn) {
	address := conn.PgConn().Conn().RemoteAddr().String()
	h.last.Store(&address)
}

// order puts what leads to the last server in front.
func (h *hosts) order(ctx context.Context, config *pgx.ConnConfig) error {
	last := h.last.Load()
	if last == nil || len(config.Fallbacks) == 0 {
		return nil
	}
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	var front, rest []*pgconn.FallbackConfig
	for _, host := range append([]*pgconn.FallbackConfig{first}, config.Fallbacks...) {
		if leads(ctx, config, host, *last) {
			front = append(front, host)
		} else {
			rest = append(rest, host)
		}
	}
	all := append(front, rest...)
	config.Host, config.Port, config.TLSConfig, config.Fallbacks = all[0].Host, all[0].Port, all[0].TLSConfig, all[1:]
	return nil
}

// leads reports whether a host is the server at an address.
func leads(ctx context.Context, config *pgx.ConnConfig, host *pgconn.FallbackConfig, address string) bool {
	ips, _ := config.LookupFunc(ctx, host.Host) // whoever connects is told what is wrong
	port := strconv.Itoa(int(host.Port))
	return slices.ContainsFunc(ips, func(ip string) bool { return net.JoinHostPort(ip, port) == address })
}
