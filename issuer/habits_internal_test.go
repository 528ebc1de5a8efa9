package issuer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/oauth"
	"github.com/evergrant/evergrant/secret"
)

// declaredHabits are the constants of type Habit.
func declaredHabits(t *testing.T) []Habit {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "use.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []Habit
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Habit" {
				text, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				all = append(all, Habit(text))
			}
		}
		return true
	})
	return all
}

// TestHabitsEnd has for each habit a client that has it, and the same client with
// the one setting that the table names.
func TestHabitsEnd(t *testing.T) {
	lax := registered{
		Client: Client{ID: "lax", GrantTypes: []string{oauth.GrantImplicit, oauth.GrantPassword}, Secrets: []secret.Verifier{secret.Slow()}},
		policy: Policy{Rotation: RotateAdditive, PKCE: PKCEPublicClients, Redirects: RedirectPrefix, RetryWindow: Lifetime(time.Minute)},
		profile: &Profile{
			QueryRequests: true, OpenRevocation: true, AnySecret: true, Implicit: true, NarrowForGood: true, Resource: &Resource{Query: true},
		},
	}
	with := func(change func(*registered)) registered {
		c := lax
		change(&c)
		return c
	}
	standard := with(func(c *registered) { c.profile = &Profile{} })
	rotating := with(func(c *registered) { c.policy.Rotation = RotateAlways })
	for habit, test := range map[Habit]struct{ has, ended registered }{
		HabitQueryRequest:   {lax, standard},
		HabitOpenRevocation: {lax, standard},
		HabitAnySecret:      {lax, standard},
		HabitNarrowed:       {lax, standard},
		HabitTokenInRequest: {lax, standard},
		HabitImplicit:       {lax, with(func(c *registered) { c.GrantTypes = []string{oauth.GrantPassword} })},
		HabitPassword:       {lax, with(func(c *registered) { c.GrantTypes = []string{oauth.GrantImplicit} })},
		HabitNoPKCE:         {lax, with(func(c *registered) { c.policy.PKCE = PKCEAlways })},
		HabitRedirectPrefix: {lax, with(func(c *registered) { c.policy.Redirects = RedirectExact })},
		HabitKeptToken:      {with(func(c *registered) { c.policy.Rotation = RotateNever }), rotating},
		HabitNoSuccessor:    {with(func(c *registered) { c.policy.Rotation = RotateOnce }), rotating},
		HabitOlderToken:     {lax, rotating},
		HabitRetry:          {lax, with(func(c *registered) { c.policy.RetryWindow = None })},
	} {
		end := Habits()[habit]
		if end.ended(&test.has) || !end.ended(&test.ended) {
			t.Errorf("%s: ended before its setting: %v, with it: %v", habit, end.ended(&test.has), end.ended(&test.ended))
		}
	}
	for name, test := range map[string]struct {
		habit Habit
		c     registered
		ended bool
	}{
		"public clients need PKCE":         {HabitNoPKCE, with(func(c *registered) { c.Secrets = nil }), true},
		"nobody needs PKCE":                {HabitNoPKCE, with(func(c *registered) { c.Secrets, c.policy.PKCE = nil, PKCENever }), false},
		"implicit is not of the profile":   {HabitImplicit, standard, true},
		"confidential clients keep theirs": {HabitKeptToken, with(func(c *registered) { c.policy.Rotation = RotatePublicClients }), false},
		"public ones do not":               {HabitKeptToken, with(func(c *registered) { c.Secrets, c.policy.Rotation = nil, RotatePublicClients }), true},
		"imported tokens end by refresh":   {HabitImportedToken, standard, false},
		"imported secrets are hashed anew": {HabitImportedSecret, standard, false},
	} {
		if got := Habits()[test.habit].ended(&test.c); got != test.ended {
			t.Errorf("%s: ended is %v", name, got)
		}
	}
}

func TestEveryHabitHasWords(t *testing.T) {
	words, declared := Habits(), declaredHabits(t)
	if len(declared) < 14 || len(words) != len(declared) {
		t.Errorf("%d habits are declared, and %d have words", len(declared), len(words))
	}
	for _, habit := range declared {
		end, ok := words[habit]
		if !ok || end.Does == "" || end.ended == nil || strings.HasSuffix(end.Does, ".") {
			t.Errorf("%s: %+v", habit, end)
		}
		if name, _, ok := strings.Cut(end.Setting, ": "); end.Setting != "" && (!ok || name == "") {
			t.Errorf("%s: the setting is %q", habit, end.Setting)
		}
	}
}
