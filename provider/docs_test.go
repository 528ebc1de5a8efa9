package provider

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func readDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/PROVIDERS.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryKeyIsDocumented holds that docs/PROVIDERS.md has a row for each key
// of each struct, and for no other.
func TestEveryKeyIsDocumented(t *testing.T) {
	_, text, _ := strings.Cut(readDoc(t), "\n## All keys\n")
	text, _, _ = strings.Cut(text, "\n## ")
	sections := map[string]string{}
	for section := range strings.SplitSeq("### all\n"+text, "### ") {
		title, rows, _ := strings.Cut(section, "\n")
		sections[strings.ReplaceAll(title, "`", "")] = rows
	}
	row := regexp.MustCompile("(?m)^\\| ((?:`[a-z_0-9]+`(?:, )?)+) \\|")
	for title, types := range map[string][]reflect.Type{
		"all": {reflect.TypeFor[Definition]()}, "params": {reflect.TypeFor[Param]()}, "authorize": {reflect.TypeFor[Authorize]()},
		"token, exchange, refresh, client_credentials, revoke": {reflect.TypeFor[Request]()},
		"response": {reflect.TypeFor[Response](), reflect.TypeFor[Expiry]()}, "access_token": {reflect.TypeFor[AccessToken]()},
		"refresh_token": {reflect.TypeFor[RefreshToken]()}, "api": {reflect.TypeFor[API]()}, "limits": {reflect.TypeFor[Limits](), reflect.TypeFor[Rate]()},
		"facts": {reflect.TypeFor[Fact]()},
	} {
		want, got := map[string]bool{}, map[string]bool{}
		for _, typ := range types {
			for key := range keys(typ) {
				want[key] = true
			}
		}
		for _, match := range row.FindAllStringSubmatch(sections[title], -1) {
			for key := range strings.SplitSeq(match[1], ", ") {
				got[strings.Trim(key, "`")] = true
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the document has %v, the struct %v", title, got, want)
		}
	}
	var rules []string // with the classes in a second table
	for _, match := range row.FindAllStringSubmatch(sections["errors"], -1) {
		rules = append(rules, strings.Split(match[1], ", ")...)
	}
	class, _ := reflect.TypeFor[ErrorRule]().FieldByName("Class")
	for name := range keys(reflect.TypeFor[ErrorRule]()) {
		if !strings.Contains(strings.Join(rules, " "), "`"+name+"`") {
			t.Errorf("errors: the document has no %s", name)
		}
	}
	for name := range strings.SplitSeq(class.Tag.Get("enum"), ",") {
		if !strings.Contains(strings.Join(rules, " "), "`"+name+"`") {
			t.Errorf("the document has no class %s", name)
		}
	}
}

// TestEveryValueIsDocumented does so for the values that texts may have.
func TestEveryValueIsDocumented(t *testing.T) {
	text, seen := readDoc(t), 0
	for _, typ := range []reflect.Type{reflect.TypeFor[Definition](), reflect.TypeFor[Authorize](), reflect.TypeFor[Request](), reflect.TypeFor[Expiry](), reflect.TypeFor[RefreshToken](), reflect.TypeFor[Fact]()} {
		for _, f := range reflect.VisibleFields(typ) {
			for value := range strings.FieldsFuncSeq(f.Tag.Get("enum"), func(r rune) bool { return r == ',' }) {
				seen++
				if !strings.Contains(text, "`"+value+"`") {
					t.Errorf("the document has no %s of %s", value, f.Name)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d values were found", seen)
	}
}

// TestDocumentedNames holds that each name in braces is in the document.
func TestDocumentedNames(t *testing.T) {
	_, text, _ := strings.Cut(readDoc(t), "\n## Names in braces\n")
	for name := range strings.FieldsSeq(namesOfOwner + " " + namesInExchange + " " + namesOfTokens + " params.NAME saved.NAME") {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the document has no %s", name)
		}
	}
}

// TestDocumentedDefinitions parses the definitions of the document.
func TestDocumentedDefinitions(t *testing.T) {
	parsed := 0
	for _, match := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDoc(t), -1) {
		if !strings.HasPrefix(match[1], "name: ") {
			continue
		}
		parsed++
		d, err := Parse("PROVIDERS.md", []byte(match[1]))
		if err != nil {
			t.Errorf("%v\n%s", err, match[1])
		}
		for _, path := range behaviours(d) {
			if _, ok := d.Facts[path]; !ok {
				t.Errorf("%s has no fact for %s", d.Name, path)
			}
		}
	}
	if parsed != 3 {
		t.Errorf("%d definitions were found", parsed)
	}
}
