// Package mariatest runs a real MariaDB server for tests, out of Debian's
// packages, on a free port of 127.0.0.1 and in a temporary directory. All tests
// of a process share it; [Database] gives each an empty database. Packages that
// use it end their TestMain with os.Exit(mariatest.Main(m.Run)).
//
// The test process is the direct parent of the server, which goes down with it,
// even where it is killed.
package mariatest
