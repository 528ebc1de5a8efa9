package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// crlf makes a response out of lines that are easier to read.
func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func TestReadResponse(t *testing.T) {
	tests := []struct {
		name string
		text string
		want response
	}{
		{"content length", crlf("HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n") + "{}", response{200, []byte("{}"), false}},
		{"empty body", crlf("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), response{200, nil, false}},
		{"no content", crlf("HTTP/1.1 204 No Content\n\n"), response{204, nil, false}},
		{"refusal", crlf("HTTP/1.1 400 Bad Request\nContent-Length: 3\n\n") + "bad", response{400, []byte("bad"), false}},
		{"no reason phrase", crlf("HTTP/1.1 503\nContent-Length: 0\n\n"), response{503, nil, false}},
		{"names in any case", crlf("HTTP/1.1 200 OK\ncONTENT-lENGTH:  2 \n\n") + "ok", response{200, []byte("ok"), false}},
		{"length given twice", crlf("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\n") + "ok", response{200, []byte("ok"), false}},
		{"closing", crlf("HTTP/1.1 200 OK\nConnection: Close\nContent-Length: 2\n\n") + "ok", response{200, []byte("ok"), true}},
		{"chunks", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nrefr\n3\nesh\n0\n\n"), response{200, []byte("refresh"), false}},
		{"chunk extension", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n2;a=b\nok\n0;c\n\n"), response{200, []byte("ok"), false}},
		{"hexadecimal size", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nA\n0123456789\n00\n\n"), response{200, []byte("0123456789"), false}},
		{"trailer", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\nDigest: x\nMore: y\n\n"), response{200, []byte("ok"), false}},
		{"line ends inside a chunk", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\n\n\n\n0\n\n"), response{200, []byte("\r\n\r\n"), false}},
		{"long body", crlf("HTTP/1.1 200 OK\nContent-Length: 10000\n\n") + strings.Repeat("x", 10000), response{200, bytes.Repeat([]byte("x"), 10000), false}},
	}
	sources := map[string]func(io.Reader) io.Reader{
		"whole":        func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"in halves":    iotest.HalfReader,
		"with EOF":     iotest.DataErrReader,
	}
	for _, test := range tests {
		for how, source := range sources {
			t.Run(test.name+"/"+how, func(t *testing.T) {
				r := reader{src: source(strings.NewReader(test.text))}
				got, err := r.read()
				if err != nil {
					t.Fatal(err)
				}
				if got.status != test.want.status || got.close != test.want.close || !bytes.Equal(got.body, test.want.body) {
					t.Errorf("%d %q %v", got.status, got.body, got.close)
				}
			})
		}
	}
}

func TestReadRefusesWhatIsNotAResponse(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"nothing", "", io.EOF},
		{"cut in the head", crlf("HTTP/1.1 200 OK\nContent-Le"), io.ErrUnexpectedEOF},
		{"cut in the body", crlf("HTTP/1.1 200 OK\nContent-Length: 9\n\n") + "{", io.ErrUnexpectedEOF},
		{"cut in a chunk", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n9\nx"), io.ErrUnexpectedEOF},
		{"cut before the last chunk", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nx\n"), io.ErrUnexpectedEOF},
		{"cut in the trailer", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nDigest: x\n"), io.ErrUnexpectedEOF},
		{"another protocol", crlf("SSH-2.0-OpenSSH_9.2 what is this\n\n"), errMalformed},
		{"an older HTTP", crlf("HTTP/1.0 200 OK\nContent-Length: 0\n\n"), errMalformed},
		{"status without digits", crlf("HTTP/1.1 abc OK\nContent-Length: 0\n\n"), errMalformed},
		{"status of four digits", crlf("HTTP/1.1 2000 OK\nContent-Length: 0\n\n"), errMalformed},
		{"informational", crlf("HTTP/1.1 100 Continue\n\n"), errMalformed},
		{"bare line feed", "HTTP/1.1 200 \n\r\nContent-Length:3\r\n\r\n000", errMalformed},
		{"bare line feed after a chunk", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;") + "\n1\r\nx", errMalformed},
		{"no length", crlf("HTTP/1.1 200 OK\n\n"), errMalformed},
		{"negative length", crlf("HTTP/1.1 200 OK\nContent-Length: -1\n\n"), errMalformed},
		{"two lengths", crlf("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\nxx"), errMalformed},
		{"length and chunks", crlf("HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\n0\n\n"), errMalformed},
		{"another coding", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n0\n\n"), errMalformed},
		{"chunk size", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nz\n"), errMalformed},
		{"chunk longer than said", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nxyz\n0\n\n"), errMalformed},
		{"more than the body", crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\n") + "xy", errMalformed},
		{"too long a body", crlf("HTTP/1.1 200 OK\nContent-Length: 2147483647\n\n"), errTooLarge},
		{"too long a chunk", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n7fffffff\n"), errTooLarge},
		{"endless head", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 3*maxResponse), errTooLarge},
		{"endless chunk size", crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n") + strings.Repeat("0", 3*maxResponse), errTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := reader{src: strings.NewReader(test.text)}
			if got, err := r.read(); !errors.Is(err, test.want) {
				t.Errorf("%d %q, error %v, want %v", got.status, got.body, err, test.want)
			}
		})
	}
}

// One connection gives out one response after the other, from one buffer.
func TestReadOneAfterTheOther(t *testing.T) {
	server, client := io.Pipe()
	go func() {
		for _, text := range []string{
			"HTTP/1.1 200 OK\nContent-Length: 5\n\nfirst",
			"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n6\nsecond\n0\n\n",
			"HTTP/1.1 200 OK\nContent-Length: 5\n\nthird",
		} {
			io.WriteString(client, crlf(text))
		}
		client.Close()
	}()
	r := reader{src: server}
	for _, want := range []string{"first", "second", "third"} {
		if got, err := r.read(); err != nil || string(got.body) != want {
			t.Fatalf("%q, %v, want %q", got.body, err, want)
		}
	}
	if _, err := r.read(); err != io.EOF {
		t.Errorf("%v after the last response", err)
	}
}

func TestStringField(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"usual", `{"access_token":"a","refresh_token":"r-1"}`, "r-1"},
		{"spaces", "{\n  \"refresh_token\" : \"r-1\"\n}", "r-1"},
		{"beside a name that begins alike", `{"refresh_token_expires_in":60,"refresh_token":"r-1"}`, "r-1"},
		{"absent", `{"access_token":"a"}`, ""},
		{"empty", `{"refresh_token":""}`, ""},
		{"null", `{"refresh_token":null}`, ""},
		{"a number", `{"refresh_token":1}`, ""},
		{"no colon", `{"refresh_token"}`, ""},
		{"cut", `{"refresh_token":"r-1`, ""},
		{"with escapes", `{"refresh_token":"r\u002d1"}`, ""},
		{"nothing", ``, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := stringField([]byte(test.body), `"refresh_token"`); string(got) != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// FuzzRead holds the reader against net/http's: what both take, they read
// alike.
func FuzzRead(f *testing.F) {
	f.Add([]byte(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}")))
	f.Add([]byte(crlf("HTTP/1.1 400 Bad Request\nConnection: close\nContent-Length: 3\n\nbad")))
	f.Add([]byte(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nrefr\n3;x=y\nesh\n0\nA: b\n\n")))
	f.Add([]byte(crlf("HTTP/1.1 204 No Content\n\n")))
	f.Add([]byte("HTTP/1.1 200 \n\r\nContent-Length:3\r\n\r\n000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := reader{src: bytes.NewReader(text)}
		ours, err := r.read()
		if err != nil {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		if ours.status != theirs.StatusCode || !bytes.Equal(ours.body, body) {
			t.Errorf("%d %q, net/http reads %d %q", ours.status, ours.body, theirs.StatusCode, body)
		}
	})
}

func FuzzStringField(f *testing.F) {
	f.Add([]byte(`{"refresh_token":"r-1"}`))
	f.Add([]byte(`"refresh_token" : "`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got := stringField(body, `"refresh_token"`); got != nil && (len(got) == 0 || !bytes.Contains(body, got)) {
			t.Errorf("%q out of %q", got, body)
		}
	})
}
