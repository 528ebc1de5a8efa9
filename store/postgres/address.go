package postgres

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Address is what a connection string says but for its password, with what the
// environment and files of libpq add to it.
type Address struct {
	Database, User string
	Hosts          []string // names, addresses or directories of sockets, in order
	Ports          []string // one for each host
	// Encrypted says that TLS is used whatever the server offers.
	Encrypted bool
}

// String names the database, without who connects to it.
func (a Address) String() string {
	places := make([]string, len(a.Hosts))
	for i, host := range a.Hosts {
		places[i] = net.JoinHostPort(host, a.Ports[i])
	}
	return a.Database + " at " + strings.Join(places, ", ")
}

// ParseAddress reads a URL (postgres:// or postgresql://) or a connection string
// of keywords, as [Open] takes it. The error shows nothing of it: where it is
// broken, what is the password in it cannot be known.
func ParseAddress(url string) (Address, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return Address{}, errors.New("the connection string of the database is not understood" + hint(err))
	}
	c := config.ConnConfig
	a := Address{Database: c.Database, User: c.User, Encrypted: true}
	if a.Database == "" { // as the server does
		a.Database = a.User
	}
	add := func(host string, port uint16, encrypted bool) {
		socket := strings.HasPrefix(host, "/")
		a.Encrypted = a.Encrypted && (encrypted || socket)
		number := strconv.Itoa(int(port))
		for i := range a.Hosts {
			if a.Hosts[i] == host && a.Ports[i] == number { // again, without TLS
				return
			}
		}
		a.Hosts, a.Ports = append(a.Hosts, host), append(a.Ports, number)
	}
	add(c.Host, c.Port, c.TLSConfig != nil)
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port, f.TLSConfig != nil)
	}
	return a, nil
}

// hint names the part of a connection string that is wrong, where the driver's
// error has one of these words beside the string itself.
func hint(err error) string {
	text := err.Error()
	if failure, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		i := strings.LastIndex(text, "`: ")
		if i < 0 || strings.Contains(failure.ConnString, "`") {
			return ""
		}
		text = text[i:]
	}
	known := []string{
		"target_session_attrs", "connect_timeout", "channel_binding", "pool_max_conns", "pool_min_conns",
		"pool_min_idle_conns", "pool_max_conn_lifetime_jitter", "pool_max_conn_lifetime", "pool_max_conn_idle_time",
		"pool_health_check_period", "sslmode", "invalid port", "port numbers", "TLS", "service",
	}
	if i := slices.IndexFunc(known, func(word string) bool { return strings.Contains(text, word) }); i >= 0 {
		return ": look at its " + strings.TrimPrefix(known[i], "invalid ")
	}
	return ""
}
