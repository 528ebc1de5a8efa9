package evergrant

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestNextMessage(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		id         int64
		data       string
		err        error
	}{
		{"one", "data: a\n\n", 0, "a", nil},
		{"CRLF", "id: 7\r\ndata: a\r\n\r\n", 7, "a", nil},
		{"two lines", "data: a\ndata:b\n\n", 0, "a\nb", nil},
		{"empty line of data", "data\n\n", 0, "", io.ErrUnexpectedEOF}, // nothing at all, to what comes next
		{"one space is none", "data:  a\n\n", 0, " a", nil},
		{"id alone", ": still here\nid: 9\n\n", 9, "", nil},
		{"bad id", "id: x\ndata: a\n\n", 0, "a", nil},
		{"comments and unknown fields", ":\n\nevent: e\nretry: 1\nfoo\ndata: a\n\n", 0, "a", nil},
		{"broken off", "data: a\n", 0, "", io.ErrUnexpectedEOF},
		{"broken off in a line", "data: a\n\nx", 0, "a", nil},
		{"nothing", "", 0, "", io.ErrUnexpectedEOF},
		{"long line", "data: " + strings.Repeat("x", maxMessage), 0, "", errMessageTooLarge},
		{"many lines", strings.Repeat("data: "+strings.Repeat("x", maxMessage/2)+"\n", 3), 0, "", errMessageTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := nextMessage(bufio.NewReader(strings.NewReader(tt.text)))
			if m.id != tt.id || string(m.data) != tt.data || !errors.Is(err, tt.err) {
				t.Errorf("message %d %.100q, error %v", m.id, m.data, err)
			}
		})
	}
}

// FuzzNextMessage looks for a stream that ends the program, has no end, or is
// read otherwise when it comes in small parts.
func FuzzNextMessage(f *testing.F) {
	for _, seed := range []string{
		"data: {\"id\":1}\n\n", "id: 1\r\nevent: x\r\ndata: {\"id\":1,\r\ndata: \"type\":\"x\"}\r\n\r\n", ":\n\n:\n", "data\n\n", "data:\n\n",
		"id: -1\n\n", "data: [1]\n\n\x00\n\n", strings.Repeat("data: x\n", 3), "id: 99999999999999999999\n\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read := func(r *bufio.Reader) (messages []message, err error) {
			for {
				m, err := nextMessage(r)
				if err != nil {
					return messages, err
				}
				messages = append(messages, m)
			}
		}
		whole, err := read(bufio.NewReader(strings.NewReader(text)))
		parts, err2 := read(bufio.NewReaderSize(strings.NewReader(text), 16))
		if len(whole) > len(text) || len(parts) != len(whole) || !errors.Is(err2, err) {
			t.Fatalf("%d messages, %v, and %d in parts, %v", len(whole), err, len(parts), err2)
		}
		for i := range whole {
			if whole[i].id != parts[i].id || string(whole[i].data) != string(parts[i].data) {
				t.Errorf("message %v, in parts %v", whole[i], parts[i])
			}
		}
	})
}
