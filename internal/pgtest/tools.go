package pgtest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// tool finds a program of PostgreSQL: the newest of Debian's, or else the one on
// the PATH. Debian keeps what belongs to a server out of the PATH.
func tool(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: apt-get install postgresql (its server programs may be on the PATH instead), then run the tests again", name)
	}
	return path, nil
}

// bouncer finds pgbouncer. Debian keeps it where only root's PATH looks.
func bouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("pgbouncer is not installed: apt-get install pgbouncer, then run the tests again")
}

// servant is who runs the servers, which refuse to run as root: nil is oneself.
func servant() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if who, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(who.Uid, 10, 32)
			gid, _ := strconv.ParseUint(who.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it: run the tests as another user")
}

// longestPlace is how long the path of a directory may be in which there are
// sockets: their paths are limited to 107 bytes.
const longestPlace = 60

// newDirectory makes a temporary directory that the servant owns and can reach:
// those of the testing package are closed to others.
func newDirectory(who *syscall.Credential) (string, error) {
	var err error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(parent) > longestPlace || who != nil && !open(parent) {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(parent, "evergrant-pg"); err != nil {
			continue
		}
		if who != nil {
			err = os.Chown(dir, int(who.Uid), int(who.Gid))
		}
		return dir, err
	}
	return "", errors.Join(errors.New("there is no temporary directory that others may enter, and whose path is short: set TMPDIR"), err)
}

// open reports whether everybody may pass through a directory and all above it.
func open(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// run runs a program to its end, as a user and in a directory, and gives what it
// printed.
func run(who *syscall.Credential, dir, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
	var out bytes.Buffer
	cmd.Stdout = &out
	err := finish(cmd)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// finish runs a command to its end; its error has what the command complained of.
func finish(cmd *exec.Cmd) error {
	var complaint bytes.Buffer
	cmd.Stderr, cmd.Env = &complaint, environment()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, &complaint)
	}
	return nil
}

// environment is the environment without what would lead PostgreSQL's programs
// to another server, in an order of words that all machines have.
func environment() []string {
	kept := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG")
	})
	return append(kept, "LC_ALL=C", "TZ=UTC")
}
