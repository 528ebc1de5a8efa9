package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxResponse is the largest response that is read, head and body each, in
// bytes. Token responses have a few hundred.
const maxResponse = 1 << 20

var (
	errTooLarge  = errors.New("response is too large")
	errMalformed = errors.New("malformed response")
)

// response is what the load generator needs of an HTTP/1.1 response. The body
// is valid until the next read.
type response struct {
	status int
	body   []byte
	close  bool // the server will close the connection
}

// reader reads HTTP/1.1 responses from one connection. It knows bodies with a
// Content-Length and chunked ones (RFC 9112, sections 6 and 7.1), which is all
// that a server may send in answer to POST on a connection that stays open.
type reader struct {
	src    io.Reader
	buf    []byte // what was received and not yet given out
	chunks []byte // the last chunked body
}

// read gives out the next response.
func (r *reader) read() (response, error) {
	head, rest, err := r.head()
	if err != nil {
		return response{}, err
	}
	answer, framing, err := parseHead(head)
	if err != nil {
		return response{}, err
	}
	var end int
	if framing.chunked {
		answer.body, end, err = r.chunked(rest)
	} else {
		end = rest + framing.length
		if err = r.need(end); err == nil {
			answer.body = r.buf[rest:end]
		}
	}
	if err != nil {
		return response{}, err
	}
	if len(r.buf) > end {
		return response{}, fmt.Errorf("%w: bytes after the body", errMalformed)
	}
	r.buf = r.buf[:0]
	return answer, nil
}

// head waits for the empty line and answers what stands before it and the
// index of what follows.
func (r *reader) head() ([]byte, int, error) {
	for searched := 0; ; {
		if i := bytes.Index(r.buf[searched:], []byte("\r\n\r\n")); i >= 0 {
			i += searched
			if bareLineFeed(r.buf[:i]) {
				return nil, 0, fmt.Errorf("%w: line end", errMalformed)
			}
			return r.buf[:i], i + 4, nil
		}
		searched = max(0, len(r.buf)-3)
		if err := r.need(len(r.buf) + 1); err != nil {
			return nil, 0, err
		}
	}
}

// need reads until the buffer holds n bytes.
func (r *reader) need(n int) error {
	if n > 2*maxResponse {
		return errTooLarge
	}
	for len(r.buf) < n {
		if len(r.buf) == cap(r.buf) {
			grown := make([]byte, len(r.buf), max(4096, 2*cap(r.buf)))
			copy(grown, r.buf)
			r.buf = grown
		}
		read, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+read]
		if err != nil && len(r.buf) < n {
			if err == io.EOF && len(r.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// chunked reads a chunked body that begins at the index and answers it with
// the index of its end.
func (r *reader) chunked(at int) ([]byte, int, error) {
	r.chunks = r.chunks[:0]
	for {
		line, next, err := r.line(at)
		if err != nil {
			return nil, 0, err
		}
		text, _, _ := strings.Cut(line, ";") // extensions mean nothing to us
		size, err := strconv.ParseUint(strings.TrimRight(text, " \t"), 16, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: chunk size", errMalformed)
		}
		if size == 0 {
			end, err := r.trailer(next)
			return r.chunks, end, err
		}
		end := next + int(size)
		if err := r.need(end + 2); err != nil {
			return nil, 0, err
		}
		if r.buf[end] != '\r' || r.buf[end+1] != '\n' {
			return nil, 0, fmt.Errorf("%w: chunk end", errMalformed)
		}
		r.chunks = append(r.chunks, r.buf[next:end]...)
		at = end + 2
	}
}

// trailer skips lines up to an empty one.
func (r *reader) trailer(at int) (int, error) {
	for {
		line, next, err := r.line(at)
		if err != nil || line == "" {
			return next, err
		}
		at = next
	}
}

// line answers the line that begins at the index, without its end, and the
// index of the next.
func (r *reader) line(at int) (string, int, error) {
	for {
		if i := bytes.Index(r.buf[at:], []byte("\r\n")); i >= 0 {
			if bareLineFeed(r.buf[at : at+i]) {
				return "", 0, fmt.Errorf("%w: line end", errMalformed)
			}
			return string(r.buf[at : at+i]), at + i + 2, nil
		}
		if err := r.need(len(r.buf) + 1); err != nil {
			return "", 0, err
		}
	}
}

// bareLineFeed reports whether a line ends without a carriage return, which
// some readers take for the end of the line and others do not.
func bareLineFeed(lines []byte) bool {
	return bytes.Count(lines, []byte("\n")) != bytes.Count(lines, []byte("\r\n"))
}

// framing says where the body ends.
type framing struct {
	chunked bool
	length  int
}

// parseHead reads the status line and the three headers that matter.
func parseHead(head []byte) (response, framing, error) {
	statusLine, fields, _ := bytes.Cut(head, []byte("\r\n"))
	status, err := parseStatus(statusLine)
	if err != nil {
		return response{}, framing{}, err
	}
	answer, length, chunked := response{status: status}, -1, false
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.Trim(value, " \t")
		switch {
		case equalFold(name, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil || length >= 0 && length != int(n) {
				return response{}, framing{}, fmt.Errorf("%w: Content-Length", errMalformed)
			}
			length = int(n)
		case equalFold(name, "transfer-encoding"):
			if !equalFold(value, "chunked") {
				return response{}, framing{}, fmt.Errorf("%w: Transfer-Encoding", errMalformed)
			}
			chunked = true
		case equalFold(name, "connection"):
			answer.close = answer.close || equalFold(value, "close")
		}
	}
	switch {
	case status == 204 || status == 304:
		return answer, framing{}, nil
	case chunked == (length >= 0): // both, or neither
		return response{}, framing{}, fmt.Errorf("%w: the body's length is not known", errMalformed)
	}
	return answer, framing{chunked, max(length, 0)}, nil
}

// parseStatus reads "HTTP/1.1 200 OK". HTTP/1.0 closes connections and 1xx
// answers come only to requests that ask for them: neither is taken.
func parseStatus(line []byte) (int, error) {
	if len(line) < 12 || string(line[:9]) != "HTTP/1.1 " || len(line) > 12 && line[12] != ' ' {
		return 0, fmt.Errorf("%w: status line", errMalformed)
	}
	status := 0
	for _, digit := range line[9:12] {
		if digit < '0' || digit > '9' {
			return 0, fmt.Errorf("%w: status", errMalformed)
		}
		status = status*10 + int(digit-'0')
	}
	if status < 200 {
		return 0, fmt.Errorf("%w: status %d", errMalformed, status)
	}
	return status, nil
}

// equalFold compares ASCII text with a lower-case word without allocating.
func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// stringField answers the bytes of a JSON object's string member, nil where it
// is absent, empty or has escapes. It looks for the quoted name and does not
// parse the rest: a load generator's answers are of a known form.
func stringField(body []byte, quotedName string) []byte {
	i := bytes.Index(body, []byte(quotedName))
	if i < 0 {
		return nil
	}
	rest, found := bytes.CutPrefix(bytes.TrimLeft(body[i+len(quotedName):], " \t\r\n"), []byte(":"))
	if !found {
		return nil
	}
	rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`))
	if !found {
		return nil
	}
	end := bytes.IndexByte(rest, '"')
	if end <= 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		return nil
	}
	return rest[:end]
}
