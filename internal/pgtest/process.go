package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// parent starts processes on a thread that lives as long as this process: the
// kernel ends a child when the thread that started it does. It also runs what
// must not belong to a synctest bubble that a caller is in: a server outlives
// the bubble, and waits by the real clock.
var parent = newParent()

// turn is one piece of work for the parent. Its channels are made by the parent,
// for a channel belongs to the bubble that made it.
type turn struct {
	work chan func()
	done chan struct{}
}

func newParent() <-chan turn {
	turns := make(chan turn)
	go func() {
		runtime.LockOSThread()
		for {
			t := turn{make(chan func()), make(chan struct{})}
			turns <- t
			(<-t.work)()
			close(t.done)
		}
	}()
	return turns
}

// fork starts a command so that it goes down with this process.
func fork(cmd *exec.Cmd) (err error) {
	t := <-parent
	t.work <- func() { err = cmd.Start() }
	<-t.done
	return err
}

// outside runs f outside of every bubble.
func outside(f func()) {
	t := <-parent
	var ended chan struct{}
	t.work <- func() {
		ended = make(chan struct{})
		go func() {
			defer close(ended)
			f()
		}()
	}
	<-t.done
	<-ended
}

// process is a server that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts a server whose output goes to a log. last is the signal that it
// gets when this process is no more.
func start(who *syscall.Credential, dir, log string, last syscall.Signal, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = dir, file, file, environment()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	leave(p.cmd.SysProcAttr, last)
	if err := fork(p.cmd); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// patience is how long anything here may take before it counts as failed.
const patience = time.Minute

// stop asks the process to end, and waits for it.
func (p *process) stop(how syscall.Signal) error {
	if !p.running() {
		return nil
	}
	p.cmd.Process.Signal(how)
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("process %d did not end by %v", p.cmd.Process.Pid, how), p.kill())
	}
}

// kill kills the process and all of its children at one moment, as a machine that
// loses power does, and waits until none is left. The process is frozen first, so
// that it starts no more of them and sees none die.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	pid := p.cmd.Process.Pid
	freeze(pid)
	family := children(pid)
	p.cmd.Process.Kill()
	for _, pid := range family {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.ended
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		all := processes()
		family = slices.DeleteFunc(family, func(pid int) bool { return all[pid].dead() })
		if len(family) == 0 {
			return nil
		}
	}
	return fmt.Errorf("processes %v do not die", family)
}

// freeze stops processes where they are, and returns when they stand still.
func freeze(pids ...int) {
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	for {
		all := processes()
		if !slices.ContainsFunc(pids, func(pid int) bool { return !all[pid].dead() && all[pid].state != 'T' }) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// entry is what the system lists of a process; the zero value is one that it does
// not list.
type entry struct {
	above int  // the process that started it
	state byte // as ps(1) writes it
}

// dead reports that a process does nothing any more: it may stay listed for as
// long as nobody asks for its exit status.
func (e entry) dead() bool { return e.state == 0 || e.state == 'Z' || e.state == 'X' }

// children are the living processes that a process has started.
func children(of int) (pids []int) {
	for pid, e := range processes() {
		if e.above == of && !e.dead() {
			pids = append(pids, pid)
		}
	}
	return pids
}
