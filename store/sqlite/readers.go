package sqlite

import (
	"context"
	"errors"

	driver "zombiezen.com/go/sqlite"
)

// readerCount is how many reads run at once. A point read takes some ten
// microseconds, so that the number matters only while long lists are read.
const readerCount = 4

// readers are connections that cannot write. Each read sees every transaction
// that was committed, by whatever process, before it began.
type readers struct {
	path    string
	slots   chan *driver.Conn // nil: to be opened by whoever takes it
	closing chan struct{}
}

func newReaders(path string) *readers {
	r := &readers{path: path, slots: make(chan *driver.Conn, readerCount), closing: make(chan struct{})}
	for range readerCount {
		r.slots <- nil
	}
	return r
}

// do runs f, a read of microseconds, on one of the connections.
func (r *readers) do(ctx context.Context, f func(*driver.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var conn *driver.Conn
	select {
	case conn = <-r.slots:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.closing:
		return errClosed
	}
	defer func() { r.slots <- conn }()
	if conn == nil {
		opened, err := openReader(r.path)
		if err != nil {
			return classify(err)
		}
		conn = opened
	}
	err := f(conn)
	if broken(err) {
		err = errors.Join(err, conn.Close())
		conn = nil
	}
	return classify(err)
}

// scan is do for reads that may be long: it ends them with the context.
func (r *readers) scan(ctx context.Context, f func(*driver.Conn) error) error {
	err := r.do(ctx, func(conn *driver.Conn) error {
		conn.SetInterrupt(ctx.Done())
		defer conn.SetInterrupt(nil)
		return f(conn)
	})
	if driver.ErrCode(err) == driver.ResultInterrupt {
		return ctx.Err()
	}
	return err
}

// close waits for the reads that run and refuses all others.
func (r *readers) close() error {
	close(r.closing)
	var errs []error
	for range readerCount {
		if conn := <-r.slots; conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}
