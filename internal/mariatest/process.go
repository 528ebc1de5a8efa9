package mariatest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// parent starts processes on a thread that lives as long as this process: the
// kernel ends a child when the thread that started it does.
var parent = newParent()

func newParent() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}

// fork starts a command so that it goes down with this process.
func fork(cmd *exec.Cmd) (err error) {
	done := make(chan struct{})
	parent <- func() {
		defer close(done)
		err = cmd.Start()
	}
	<-done
	return err
}

// tool finds a program of MariaDB. Debian keeps the server where only root's PATH
// looks.
func tool(name string) (string, error) {
	for _, place := range []string{name, filepath.Join("/usr/sbin", name)} {
		if path, err := exec.LookPath(place); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: apt-get install mariadb-server-core, then run the tests again", name)
}

// servant is who runs the server, which refuses to run as root: nil is oneself.
func servant() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"mysql", "nobody"} {
		if who, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(who.Uid, 10, 32)
			gid, _ := strconv.ParseUint(who.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("MariaDB does not run as root, and there is no user mysql or nobody to run it: run the tests as another user")
}

// newDirectory makes a temporary directory that the servant owns and can reach,
// with a path that is short enough for a socket in it.
func newDirectory(who *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("/tmp", "evergrant-maria")
	if err == nil && who != nil {
		err = os.Chown(dir, int(who.Uid), int(who.Gid))
	}
	return dir, err
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
