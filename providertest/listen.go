package providertest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listen serves a simulator on a free port of 127.0.0.1, until stop is called.
// It panics where there is none.
func Listen(h http.Handler) (url string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("providertest: no free port on 127.0.0.1: " + err.Error())
	}
	return "http://" + listener.Addr().String(), serve(listener, h)
}

// Pipe serves a simulator in memory, until stop is called. dial connects to it
// whatever the address, and fails after stop without anything sent. Nothing in
// it waits for the outside, so that testing/synctest can use it.
func Pipe(h http.Handler) (dial func(ctx context.Context, network, address string) (net.Conn, error), stop func()) {
	p := &pipe{conns: make(chan net.Conn), closed: make(chan struct{})}
	return p.dial, serve(p, h)
}

func serve(listener net.Listener, h http.Handler) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // until Close
	}()
	return func() {
		server.Close()
		<-done
	}
}

// pipe is a net.Listener of connections in memory.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements [net.Listener].
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
