package mariatest

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func TestMain(m *testing.M) {
	if os.Getenv(abandonEnv) != "" {
		s, err := start()
		fmt.Println(s.dir, err)
		select {}
	}
	os.Exit(Main(m.Run))
}

// abandonEnv tells a process that it is to start a server, say where it is, and
// wait to be killed.
const abandonEnv = "EVERGRANT_MARIATEST_ABANDON"

// TestDatabase holds that each test has a database of its own, which goes with it.
func TestDatabase(t *testing.T) {
	var gone string
	t.Run("inner", func(t *testing.T) {
		one, two := connect(t, Database(t)), connect(t, Database(t))
		if _, err := one.Exec("CREATE TABLE t (n INT) ENGINE = InnoDB"); err != nil {
			t.Fatal(err)
		}
		if _, err := two.Exec("CREATE TABLE t (n INT)"); err != nil {
			t.Errorf("two databases are one: %v", err)
		}
		gone = name(t, one)
	})
	other := connect(t, Database(t))
	if _, err := other.Exec("USE " + gone); err == nil {
		t.Error("the database outlives its test")
	}
	if now := name(t, other); now == gone {
		t.Errorf("%s is used again", now)
	}
	var tables int
	if err := other.QueryRow("SELECT count(*) FROM information_schema.tables WHERE table_schema = database()").Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables in an empty database, %v", tables, err)
	}
}

func name(t *testing.T, db *sql.DB) (name string) {
	t.Helper()
	if err := db.QueryRow("SELECT database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// connect reads an address by its parts alone, as written.
func connect(t *testing.T, address string) *sql.DB {
	t.Helper()
	rest, ok := strings.CutPrefix(address, "mysql://"+role+":"+escaped+"@")
	host, database, cut := strings.Cut(rest, "/")
	if !ok || !cut {
		t.Fatalf("address %q", address)
	}
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr, config.DBName = role, Password(), "tcp", host, database
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// TestServerEndsWithTheProcess holds that no server outlives a test process that
// is killed.
func TestServerEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), abandonEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer io.Copy(io.Discard, out)
	line, err := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Kill()
	cmd.Wait()
	dir, ok := strings.CutSuffix(line, " <nil>\n")
	if !ok || !strings.HasPrefix(filepath.Base(dir), "evergrant-maria") {
		t.Fatalf("it said %q, %v", line, err)
	}
	defer os.RemoveAll(dir)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		working, _ := filepath.Glob("/proc/[0-9]*/cwd")
		left := 0
		for _, link := range working {
			if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", left)
		}
	}
}
