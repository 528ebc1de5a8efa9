// Package pgtest runs real PostgreSQL for tests: servers out of Debian's
// packages, on free ports of 127.0.0.1, in temporary directories, with fsync on.
// A server can be killed whole and started again, have a synchronous standby, be
// promoted and rejoin; pgbouncer can stand in front of one.
//
// Most tests need a database and no more: [Database] gives an empty one on a
// server that all tests of the process share. Such packages end their TestMain
// with os.Exit(pgtest.Main(m)).
//
// The test process is the direct parent of each server. What it does not stop
// goes down with it, even where it is killed.
//
// The package speaks no SQL of its own beyond what administers a server, and
// that through psql, so that no driver is needed here.
package pgtest
