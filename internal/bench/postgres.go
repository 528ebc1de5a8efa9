package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Postgres is a PostgreSQL server in a directory of its own, which listens on
// 127.0.0.1 and trusts whoever comes from there.
type Postgres struct {
	*Server
	// Log is the pattern of the files of its write-ahead log.
	Log string
}

// PostgresVersion is what the server's program says of itself, such as
// "PostgreSQL 15.18", or an error that says what to install.
func PostgresVersion(ctx context.Context) (string, error) {
	program, err := postgresTool("postgres")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	_, after, _ := strings.Cut(string(out), "(PostgreSQL) ")
	version, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	return "PostgreSQL " + version, err
}

// StartPostgres makes and starts a server in a directory that it makes within
// parent. Flushes are on unless the settings say otherwise. on changes the
// command line that runs it. Where this process is root, which PostgreSQL refuses
// to be, the user postgres is it, and must be able to enter parent.
func StartPostgres(ctx context.Context, parent string, settings map[string]string, on func(argv ...string) []string) (*Postgres, error) {
	dir, err := os.MkdirTemp(parent, "postgres-")
	if err != nil {
		return nil, err
	}
	as, err := servant(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := initialize(ctx, dir, data, as); err != nil {
		return nil, err
	}
	program, err := postgresTool("postgres")
	if err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	argv := append(as, program, "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	for name, value := range settings {
		argv = append(argv, "-c", name+"="+value)
	}
	p := &Postgres{Log: filepath.Join(data, "pg_wal", "0*")}
	p.Server, err = Start(ctx, Command{
		Argv: on(argv...), Address: address, Log: filepath.Join(dir, "log"),
		Ready: func(ctx context.Context) error {
			_, err := psql(ctx, databaseURL(address, "postgres"), "", "-c", "SELECT 1")
			return err
		},
		Signal: os.Interrupt, // end all sessions, write a checkpoint, and go
	})
	return p, err
}

// initialize makes the server's files.
func initialize(ctx context.Context, dir, data string, as []string) error {
	program, err := postgresTool("initdb")
	if err != nil {
		return err
	}
	argv := append(slices.Clone(as), program, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// servant is the beginning of a command line that runs the rest of it as the
// owner of PostgreSQL's files, to whom the directory is given.
func servant(dir string) ([]string, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		who, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		return []string{"setpriv", "--reuid=" + who.Uid, "--regid=" + who.Gid, "--clear-groups"}, os.Chown(dir, uid, gid)
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it")
}

// postgresTool finds a program of PostgreSQL: the newest of Debian's, which keeps
// them out of the PATH, or else the one on the PATH.
func postgresTool(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(strings.Split(path, "/")[4])
			return n
		}
		return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: apt-get install postgresql", name)
	}
	return path, nil
}

// FreeAddress is a loopback address that nobody listened on a moment ago.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// URL is the connection string of one of the server's databases.
func (p *Postgres) URL(database string) string { return databaseURL(p.Address, database) }

func databaseURL(address, database string) string {
	return "postgres://postgres@" + address + "/" + database + "?sslmode=disable"
}

// Exec runs statements in a database, in one session and each by itself.
func (p *Postgres) Exec(ctx context.Context, database string, statements ...string) error {
	var args []string
	for _, sql := range statements {
		args = append(args, "-c", sql)
	}
	_, err := psql(ctx, p.URL(database), "", args...)
	return err
}

// Number runs a statement that gives one number.
func (p *Postgres) Number(ctx context.Context, database, sql string) (int64, error) {
	out, err := psql(ctx, p.URL(database), "", "-c", sql)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// count counts the rows of every table.
const count = `SELECT pg_database_size(current_database());
SELECT format('SELECT %L, count(*) FROM %I.%I', relname, schemaname, relname) FROM pg_stat_user_tables \gexec
`

// Stats counts the rows of each table of a database, and its bytes: those of
// dead rows too, since their places are what a database that does not grow uses
// again.
func (p *Postgres) Stats(ctx context.Context, database string) (Stats, error) {
	stats := Stats{Rows: map[string]int64{}}
	out, err := psql(ctx, p.URL(database), count, "-F", "\t")
	for line := range strings.Lines(out) {
		table, number, isTable := strings.Cut(strings.TrimSpace(line), "\t")
		if !isTable {
			stats.Bytes, err = strconv.ParseInt(table, 10, 64)
		} else {
			stats.Rows[table], err = strconv.ParseInt(number, 10, 64)
		}
		if err != nil {
			return stats, err
		}
	}
	return stats, err
}

// psql runs a script, or what its arguments say, and answers what that printed.
func psql(ctx context.Context, url, script string, args ...string) (string, error) {
	program, err := postgresTool("psql")
	if err != nil {
		return "", err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, append([]string{"-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", url}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}
