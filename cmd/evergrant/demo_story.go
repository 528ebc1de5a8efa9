package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// storyWidth is the width of text in characters: it fits a terminal of 100
// columns. Commands with long tokens are wider, since they must stay whole.
const storyWidth = 96

// Colours of a terminal (ECMA-48 SGR).
const (
	bold  = "1"
	faint = "2"
	red   = "1;31"
	green = "32"
	cyan  = "36"
)

// story writes what the demo shows.
type story struct {
	w      io.Writer
	colour bool
	last   *lastLine // what w is on a terminal; nil elsewhere
}

// lastLine is a terminal with a line at its end that is overwritten by whatever
// comes next.
type lastLine struct {
	w     io.Writer
	shown string
}

// Write overwrites the line.
func (l *lastLine) Write(b []byte) (int, error) {
	if l.shown != "" {
		l.shown = ""
		if _, err := io.WriteString(l.w, "\r\x1b[K"); err != nil {
			return 0, err
		}
	}
	return l.w.Write(b)
}

// live shows what changes all the time, on a terminal only.
func (s *story) live(text string) {
	if s.last == nil || s.last.shown == text {
		return
	}
	fmt.Fprint(s.last, "  "+s.paint(faint, text))
	s.last.shown = text
}

func (s *story) paint(colour, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// heading begins a part.
func (s *story) heading(title string) {
	rule := strings.Repeat("─", max(storyWidth-utf8.RuneCountInString(title)-4, 0))
	fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, "── "+title+" "+rule))
}

// prose is text without lines of its own.
func (s *story) prose(text string) {
	fmt.Fprintln(s.w, "  "+wrap(text, storyWidth-2, "\n  "))
}

// aside is prose in the middle of a part.
func (s *story) aside(text string) {
	fmt.Fprintln(s.w)
	s.prose(text)
}

// command shows a command line, broken at its words where it is long.
func (s *story) command(words ...string) {
	fmt.Fprintln(s.w)
	for line := range strings.Lines(layOut(words)) {
		fmt.Fprintln(s.w, "    "+s.paint(cyan, strings.TrimSuffix(line, "\n")))
	}
}

// answer shows what a request came to.
func (s *story) answer(e exchange) {
	status := statusLine(e.status)
	switch location := e.header.Get("Location"); {
	case strings.HasPrefix(location, "?"):
		status += ", to the same page"
	case location != "":
		status += ", to " + shorten(location)
	}
	fmt.Fprintln(s.w, "    "+wrap("→ "+status, storyWidth-4, "\n      "))
	if text := pretty(e); text != "" {
		s.block(text)
	}
}

// line shows one of several lines that come one after the other.
func (s *story) line(text string) { fmt.Fprintln(s.w, "    "+text) }

// block shows text with lines of its own.
func (s *story) block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		text := wrap("    "+strings.TrimRight(line, "\n"), storyWidth, "\n        ")
		fmt.Fprintln(s.w, s.paint(faint, strings.TrimRight(text, " ")))
	}
}

// promise shows whether a promise was kept, with what was compared.
func (s *story) promise(p promise) {
	mark, colour := "✓ ", green
	if !p.Kept {
		mark, colour = "✗ BROKEN: ", red
	}
	text := wrap("  "+mark+p.Promise+" ("+p.Compared+")", storyWidth, "\n    ")
	fmt.Fprintln(s.w, strings.Replace(text, mark, s.paint(colour, mark), 1))
}

func statusLine(status int) string {
	if status == 0 {
		return "no answer"
	}
	return strconv.Itoa(status) + " " + http.StatusText(status)
}

// pretty is the body of an answer for reading: JSON indented, a page as its
// title, tokens shortened.
func pretty(e exchange) string {
	var out bytes.Buffer
	switch title := e.title(); {
	case title != "":
		return "(a page: " + title + ")"
	case e.status == http.StatusOK && len(e.body) == 0:
		return "(an empty body)"
	case json.Indent(&out, e.body, "", "  ") != nil:
		return shorten(string(e.body))
	}
	return shorten(out.String())
}

// longToken finds JWTs, codes, tokens, those of the simulated providers, and
// sealed texts in URLs.
var longToken = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+|eg[acr]_[\w-]{40,}|sim_[a-z]+_[\w-]{24,}|[\w-]{80,}`)

// shorten leaves of each token the beginning and the end, by which people tell
// tokens apart.
func shorten(text string) string {
	return longToken.ReplaceAllStringFunc(text, func(token string) string {
		return token[:12] + "…" + token[len(token)-8:]
	})
}

// layOut joins the words of a command, with a new line before a word that would
// make the line long.
func layOut(words []string) string {
	var out strings.Builder
	room := storyWidth - 4
	for i, word := range words {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case i == 1: // no line is worth the name of a program alone
			out.WriteByte(' ')
			room--
		case length+3 > room: // a blank before it, and " \" behind it
			out.WriteString(" \\\n  ")
			room = storyWidth - 6
		default:
			out.WriteByte(' ')
			room--
		}
		out.WriteString(word)
		room -= length
	}
	return out.String()
}

// wrap breaks a line at blanks so that it is no longer than width characters,
// unless a word is. Further lines begin after newline, a line feed and what
// they are indented by.
func wrap(text string, width int, newline string) string {
	var out strings.Builder
	for room := width; ; room = width - len(newline) + 1 {
		at := breakAt(text, room)
		if at < 0 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(strings.TrimRight(text[:at], " ") + newline)
		text = strings.TrimLeft(text[at:], " ")
	}
}

// breakAt is the index of the last blank within width characters or, where
// there is none, of the first one; -1 where nothing is to break.
func breakAt(text string, width int) int {
	if utf8.RuneCountInString(text) <= width {
		return -1
	}
	blank, column, begun := -1, 0, false
	for i, r := range text {
		if r == ' ' && begun && (column <= width || blank < 0) {
			blank = i
		}
		begun = begun || r != ' ' // the indentation of a line is no place to break it
		if column > width && blank >= 0 {
			break
		}
		column++
	}
	return blank
}
