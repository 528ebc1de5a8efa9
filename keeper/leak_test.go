package keeper_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/keeper"
	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/provider"
	"github.com/evergrant/evergrant/providertest"
	"github.com/evergrant/evergrant/secret"
)

// words are what all secrets of a simulator begin with, and the app's secret.
var words = []string{"sim_at_", "sim_rt_", "sim_code_", "sim-secret"}

// shapes are the ways in which a secret may show in a text or a file: as it is,
// in hexadecimal, as numbers, and in base64 wherever it stands in what was
// encoded.
func shapes(planted string) (all []string) {
	numbers := strings.Trim(fmt.Sprint([]byte(planted)), "[]")
	all = []string{planted, hex.EncodeToString([]byte(planted)), strings.ToUpper(hex.EncodeToString([]byte(planted))), numbers, strings.ReplaceAll(numbers, " ", ",")}
	for before := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			shifted := encoding.EncodeToString([]byte(strings.Repeat("x", before) + planted))
			all = append(all, shifted[(before*8+5)/6:(before+len(planted))*8/6])
		}
	}
	return all
}

// watch looks for secrets.
type watch struct {
	t       *testing.T
	planted map[string]bool
	shapes  []string
}

func newWatch(t *testing.T) *watch {
	o := &watch{t: t, planted: map[string]bool{}}
	o.plant(words...)
	return o
}

func (o *watch) plant(secrets ...string) {
	for _, planted := range secrets {
		if len(planted) < 6 {
			o.t.Fatalf("%q is too short to be looked for", planted)
		}
		if !o.planted[planted] {
			o.planted[planted] = true
			o.shapes = append(o.shapes, shapes(planted)...)
		}
	}
}

// shows is the first secret that is in a text, or "".
func (o *watch) shows(text []byte) string {
	for _, shape := range o.shapes {
		if bytes.Contains(text, []byte(shape)) {
			return shape
		}
	}
	return ""
}

// texts are the texts of a value in each way of printing, logging and encoding.
func texts(v any) map[string]string {
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	var text, asJSON bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("printed", "value", v)
	switch v.(type) {
	case provider.Answer, *provider.Answer, []provider.Answer: // whose JSON is what the journal seals
	default:
		encoded, err := json.Marshal(v)
		out["JSON"] = string(encoded) + fmt.Sprint(err)
		slog.New(slog.NewJSONHandler(&asJSON, nil)).Info("printed", "value", v)
	}
	out["slog"], out["slog JSON"] = text.String(), asJSON.String()
	return out
}

// values holds that no value shows a secret, however it is printed.
func (o *watch) values(all ...any) {
	o.t.Helper()
	for _, v := range all {
		for how, text := range texts(v) {
			if found := o.shows([]byte(text)); found != "" {
				at := strings.Index(text, found)
				o.t.Errorf("%s of %T shows %s: %s", how, v, found, text[max(0, at-200):min(len(text), at+80)])
			}
		}
	}
}

// files holds that no file below a directory shows a secret, nor its name.
func (o *watch) files(dir string) (n int) {
	o.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		text, err := os.ReadFile(path)
		if found := o.shows(append([]byte(path+"\n"), text...)); found != "" {
			o.t.Errorf("%s shows %s", path, found)
		}
		return err
	})
	if err != nil {
		o.t.Error(err)
	}
	return n
}

// TestTheWatchFinds holds that the search of these tests finds what it is for.
func TestTheWatchFinds(t *testing.T) {
	o := newWatch(t)
	token := "sim_rt_" + strings.Repeat("Zz09_-aA", 4)
	type held struct{ Token, token string }
	for _, v := range []any{
		token, []byte(token), held{Token: token}, held{token: token}, &held{token: token}, errors.New(token), map[string]any{"x": token},
		keeper.Event{Detail: token}, keeper.Connection{Metadata: map[string]any{"x": token}}, &keeper.Unusable{Detail: "of " + token}, secret.Sealed{Data: []byte(token)},
		oauth.Scope{token}, provider.Tokens{Kept: map[string]any{"x": token}}, &url.URL{Scheme: "http", RawQuery: "code=sim_code_x"},
	} {
		found := 0
		for _, text := range texts(v) {
			if o.shows([]byte(text)) != "" {
				found++
			}
		}
		if found < 4 {
			t.Errorf("in %T it was found in %d texts only", v, found)
		}
	}
	for before := range 7 {
		inside := strings.Repeat("#", before) + token + "##"
		for how, text := range map[string]string{
			"base64": base64.StdEncoding.EncodeToString([]byte(inside)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(inside)),
			"hex": hex.EncodeToString([]byte(inside)), "bytes": fmt.Sprint([]byte(inside)), "source": fmt.Sprintf("%d", []byte(inside)),
			"journal": string(must[[]byte](t)(json.Marshal(provider.Answer{Body: []byte(inside)}))),
		} {
			if o.shows([]byte(text)) == "" {
				t.Errorf("%d bytes before it in %s it is not found", before, how)
			}
		}
	}
	silent := &watch{t: &testing.T{}, planted: o.planted, shapes: o.shapes}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "database"), []byte("\x00\x01"+token+"\x02"), 0o600); err != nil {
		t.Fatal(err)
	}
	if silent.files(dir); !silent.t.Failed() {
		t.Error("it is not found in a file")
	}
}

// secretLife is a world whose provider can be made to answer with what it was
// sent.
type secretLife struct {
	*world
	*watch
	site *site
	log  *syncBuffer
	told []any // all that the keeper gave, errors as well
}

func newSecretLife(t *testing.T) *secretLife {
	d := single()
	d.PKCE, d.Revoke = true, &providertest.Revocation{}
	d.Definition.Response.Keep = map[string]string{"kept": "kept", "wrong": "access_token"}
	w := consenting(t, d)
	l := &secretLife{world: w, watch: newWatch(t), site: &site{Simulator: w.sims["single"]}, log: &syncBuffer{}}
	url, stop := providertest.Listen(l.site)
	t.Cleanup(stop)
	w.urls["single"], w.log = url, l.log
	w.start()
	return l
}

// tell remembers what was given, for printing, and plants what was sent.
func (l *secretLife) tell(given ...any) {
	l.watch.t.Helper()
	l.told = append(l.told, given...)
	for _, q := range l.site.take() {
		fields, _ := url.ParseQuery(q.body)
		for _, name := range []string{"code_verifier", "code", "refresh_token", "token"} {
			if fields.Has(name) {
				l.plant(fields.Get(name))
			}
		}
	}
}

// about tells all that is known of a connection.
func (l *secretLife) about(id string) {
	ctx := l.watch.t.Context()
	row, err := l.k.Connection(ctx, id)
	explanation, explainErr := l.k.Explain(ctx, id)
	events, eventsErr := l.store.Events(ctx, keeper.EventFilter{Connection: id, Limit: 1000})
	l.tell(row, &row, err, explanation, explainErr, events, eventsErr)
}

// quotes are answers that quote what was sent, as servers do that are being
// debugged.
var quotes = map[string]func(q sent) string{
	"description": func(q sent) string { return quoted("error_description", q.body) },
	"message":     func(q sent) string { return quoted("message", q.body) },
	"code": func(q sent) string {
		fields, _ := url.ParseQuery(q.body)
		return quoted("error", fields.Get("refresh_token"))
	},
	"text": func(q sent) string { return "cannot understand: " + q.body },
	"page": func(q sent) string { return "<!doctype html><html><title>" + q.body + "</title></html>" },
	"names": func(q sent) string {
		fields, _ := url.ParseQuery(q.body)
		return quotedNames(slices.Concat(slices.Collect(maps.Values(fields))...))
	},
}

func quoted(field, text string) string {
	body, _ := json.Marshal(map[string]string{"error": "invalid_request", field: "You sent " + text})
	return string(body)
}

func quotedNames(names []string) string {
	body := map[string]bool{}
	for _, name := range names {
		body[name] = true
	}
	text, _ := json.Marshal(body)
	return string(text)
}

// turned answers with tokens where names should be.
func turned(body []byte) []byte {
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		return body
	}
	out := map[string]any{}
	for name, value := range fields {
		out[fmt.Sprint(value)] = name
	}
	text, _ := json.Marshal(out)
	return text
}

// TestNothingLeaks leads connections through whole lives, with every failure
// that there is, and looks for their tokens, codes, verifiers and the app's
// secret in files, in the log and in all that is printed.
func TestNothingLeaks(t *testing.T) {
	l := newSecretLife(t)
	l.begins()
	l.fails()
	l.isQuoted()
	l.spools()
	l.ends()
	if len(l.log.String()) < 1000 {
		t.Errorf("the log is empty: %s", l.log)
	}
	if found := l.shows([]byte(l.log.String())); found != "" {
		t.Errorf("the log shows %s: %s", found, l.log)
	}
	if len(l.planted) < 40 || len(l.told) < 200 {
		t.Errorf("only %d secrets and %d values were looked at", len(l.planted), len(l.told))
	}
	l.values(l.told...)
	l.values(l.k, reflect.ValueOf(l.k).Elem(), l.k.Client(t.Context(), "import"), l.k.TokenSource(t.Context(), "import"))
	l.db.Close()
	if n := l.atRest(); n < 2 {
		t.Errorf("there were only %d files", n)
	}
}

// atRest looks through the spool and the database, and says how many files there
// were.
func (l *secretLife) atRest() int {
	n := l.files(l.dir)
	for _, path := range l.place.Files(l.watch.t) {
		n += l.files(path)
	}
	return n
}

// begins imports a connection, connects another, and refreshes both.
func (l *secretLife) begins() {
	t := l.watch.t
	_, tokens := l.site.Connect("import")
	in := keeper.Import{ID: "import", Provider: "single", Owner: "import", AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, ExpiresAt: tokens.ExpiresAt}
	row, err := l.k.Create(t.Context(), operator, in)
	l.tell(in, tokens, row, err)
	link, _, err := l.k.Link(t.Context(), keeper.Connect{Provider: "single", Connection: "connected", Owner: "owner"})
	asked := must[keeper.Connect](t)(l.k.OpenLink(link))
	authorizeURL, beginErr := l.k.Begin(t.Context(), asked, cookie)
	told, row, finishErr := l.k.Finish(t.Context(), l.follow(authorizeURL), cookie)
	l.tell(link, err, asked, authorizeURL, beginErr, told, row, finishErr)
	for _, id := range []string{"import", "connected"} {
		for range 3 {
			token, err := l.k.Token(t.Context(), id, keeper.Want{Force: true})
			l.tell(token, &token, err)
		}
		l.about(id)
		l.atRest()
	}
}

// fails refreshes a connection with each fault of the provider.
func (l *secretLife) fails() {
	t := l.watch.t
	for name, fault := range map[string]providertest.Fault{
		"empty": providertest.Empty(), "page": providertest.Page(http.StatusOK), "list": providertest.Set("access_token", []any{"{access_token}"}),
		"unset": providertest.Unset("access_token"), "cut": providertest.Cut(40), "cut late": providertest.Cut(150), "gateway": providertest.BadGateway(),
		"after": providertest.DropAfter(), "before": providertest.DropBefore(), "throttled": providertest.Unavailable(http.StatusTooManyRequests, "1"),
		"redirect": providertest.Redirect("http://127.0.0.1:1/?token=sim_rt_elsewhere"), "names": {Body: turned}, "kept": providertest.Set("kept", "{refresh_token}"),
		"form": {Body: func(body []byte) []byte {
			return []byte(strings.NewReplacer(`{"`, "", `":"`, "=", `","`, "&", `"}`, "").Replace(string(body)))
		}},
		"text": {Body: func(body []byte) []byte { return append([]byte("tokens: "), body...) }},
	} {
		id := "fault-" + strings.ReplaceAll(name, " ", "-")
		l.connect(id, "single")
		l.site.Inject(providertest.Rule{Times: 1, Fault: fault})
		token, err := l.k.Token(t.Context(), id, keeper.Want{After: 1})
		_, refreshErr := l.k.Refresh(t.Context(), operator, id, true)
		l.tell(token, err, refreshErr)
		l.about(id)
		l.atRest()
		l.site.Clear()
	}
	l.clock.move(2 * time.Hour)
	runIn(t, func() { time.Sleep(200 * time.Millisecond) }, l.k)
}

// isQuoted refreshes, connects and revokes at a provider that answers with what
// it was sent.
func (l *secretLife) isQuoted() {
	t := l.watch.t
	for name, quote := range quotes {
		id := "quoted-" + name
		l.connect(id, "single")
		query := l.visit(l.link(keeper.Connect{Provider: "single", Connection: id}))
		l.site.answers(quote)
		_, err := l.k.Token(t.Context(), id, keeper.Want{After: 1})
		_, row, finishErr := l.k.Finish(t.Context(), query, cookie)
		l.tell(err, row, finishErr)
		l.site.answers(nil)
		l.about(id)

		p := newProvider(t, "single", l.site.Definition(l.urls["single"]), l.clock.now, nil)
		_, tokens := l.site.Connect(id)
		call := provider.Call{Kind: provider.Refresh, AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken,
			Code: secret.NewText("sim_code_1"), CodeVerifier: secret.NewText("sim_code_verifier")}
		l.site.answers(quote)
		answer, sendErr := p.Send(t.Context(), call)
		read, readErr := p.Read(answer)
		l.site.answers(nil)
		l.tell(p, p.Definition(), call, &call, answer, &answer, []provider.Answer{answer}, sendErr, read, readErr)
	}
}

// spools lets the store fail while an answer is on its way.
func (l *secretLife) spools() {
	t, store := l.watch.t, l.store
	l.connect("spooled", "single")
	var down atomic.Bool
	l.site.Inject(providertest.Rule{Times: 1, Fault: providertest.Fault{Before: func() { down.Store(true) }}})
	l.faulty(func(string) error {
		if down.Load() {
			return errDown
		}
		return nil
	}, nil)
	_, err := l.k.Token(t.Context(), "spooled", keeper.Want{After: 1})
	if kept := must[[]string](t)(filepath.Glob(filepath.Join(l.dir, "spool", "*.answer"))); len(kept) != 1 || !errors.Is(err, errDown) {
		t.Errorf("the spool has %v; %v", kept, err)
	}
	l.tell(err, l.k)
	l.atRest()
	l.store = store
	l.start()
	l.clock.move(time.Minute)
	token, err := l.k.Token(t.Context(), "spooled", keeper.Want{After: 1})
	l.tell(token, err)
	l.about("spooled")
}

// ends deletes connections, of which the provider revokes one.
func (l *secretLife) ends() {
	t := l.watch.t
	_, err := l.k.Delete(t.Context(), operator, "spooled")
	l.tell(err)
	l.connect("refused", "single")
	l.site.SetSecrets("another")
	_, err = l.k.Delete(t.Context(), operator, "refused")
	l.tell(err)
	l.atRest()
}
