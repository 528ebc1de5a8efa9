package evergrant

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Waits before a stream that broke off is asked for again.
const (
	followSoon = 100 * time.Millisecond
	followLate = 15 * time.Second
)

// FollowEvents are events as they happen, oldest first: those after the one with
// an id, or from now on where it is below 0. Where the stream breaks off, it is asked
// for again from where it was, until the context ends. An error ends the
// sequence: the context's, or that of the first request.
func (c *Client) FollowEvents(ctx context.Context, filter EventFilter, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		last, wait, begun := after, followSoon, false
		for {
			opened := func() { begun, wait = true, followSoon }
			err := c.stream(ctx, filter, &last, opened, func(event Event) bool { return yield(event, nil) })
			switch {
			case errors.Is(err, errEnough):
				return
			case !begun || ctx.Err() != nil || refused(err):
				yield(Event{}, err)
				return
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				yield(Event{}, ctx.Err())
				return
			}
			wait = min(2*wait, followLate)
		}
	}
}

// errEnough says that the caller wants no more events.
var errEnough = errors.New("enough")

// refused reports whether a server said no, and would again.
func refused(err error) bool {
	problem, ok := errors.AsType[*Problem](err)
	return ok && problem.Status < 500 && problem.Status != http.StatusTooManyRequests
}

// stream reads one stream, from the event after last, to its end, which is an
// error always. last follows what was read.
func (c *Client) stream(ctx context.Context, filter EventFilter, last *int64, opened func(), each func(Event) bool) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if *last >= 0 {
		header.Set("Last-Event-ID", strconv.FormatInt(*last, 10))
	}
	resp, err := c.send(ctx, "GET", "/v1/events?"+filter.query().Encode(), nil, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); kind != "text/event-stream" {
		return c.foreign(resp.StatusCode)
	}
	opened()
	events := bufio.NewReaderSize(resp.Body, 4<<10)
	for {
		message, err := nextMessage(events)
		if err != nil {
			return c.unreachable(ctx, err)
		}
		if message.id > 0 {
			*last = message.id // also of events that the filter left out
		}
		var event Event
		if json.Unmarshal(message.data, &event) != nil || event.ID == 0 {
			continue // a sign of life, or of a kind that a later version has
		}
		*last = event.ID
		if !each(event) {
			return errEnough
		}
	}
}

// message is a part of a stream: an id without data only moves where to go on.
type message struct {
	id   int64 // 0: none
	data []byte
}

// maxMessage bounds one message of a stream in bytes.
const maxMessage = 1 << 20

var errMessageTooLarge = errors.New("a message of the stream has no end")

// nextMessage reads the next message that has anything (HTML Standard section
// 9.2.6). Lines end with LF or CRLF.
func nextMessage(r *bufio.Reader) (m message, err error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return message{}, err // a message that was broken off counts for nothing
		}
		if len(line) == 0 && (m.id != 0 || m.data != nil) {
			return m, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			m.id, _ = strconv.ParseInt(string(value), 10, 64)
		case "data":
			if m.data != nil {
				m.data = append(m.data, '\n')
			}
			m.data = append(m.data, value...)
		}
		if len(m.data) > maxMessage {
			return message{}, errMessageTooLarge
		}
	}
}

// readLine is a line without its end. One that is longer than a message may be
// gives errMessageTooLarge.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxMessage:
			return nil, errMessageTooLarge
		case err == nil:
			return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
