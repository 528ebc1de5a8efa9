package foreign

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// table is a table that is there.
type table struct {
	name    string
	columns map[string]columnOf // by their names in lower case
}

// columnOf is a column of a table.
type columnOf struct{ name, form string }

// number reports whether PostgreSQL compares the column with numbers.
func (c columnOf) number() bool {
	return slices.Contains([]string{"smallint", "integer", "bigint"}, c.form)
}

// column finds a column by one of several names. One that begins with * may have
// more before it.
func (t *table) column(names ...string) (columnOf, bool) {
	if t == nil {
		return columnOf{}, false
	}
	for _, name := range names {
		if c, ok := t.columns[strings.TrimPrefix(name, "*")]; ok {
			return c, true
		}
		if suffix, ok := strings.CutPrefix(name, "*"); ok {
			for _, there := range slices.Sorted(maps.Keys(t.columns)) {
				if strings.HasSuffix(there, "_"+suffix) {
					return t.columns[there], true
				}
			}
		}
	}
	return columnOf{}, false
}

// lacks names the first of the columns that the table does not have.
func (t *table) lacks(columns []string) string {
	for _, c := range columns {
		if _, ok := t.column(strings.Split(c, "|")...); !ok {
			return strings.ReplaceAll(strings.ReplaceAll(c, "*", ""), "|", " or ")
		}
	}
	return ""
}

// role is what a table is for.
type role struct {
	name     string
	table    string   // how it is usually called; "" where the application names it
	columns  []string // that it must have, alternatives divided by |
	without  string   // a column that it must not have
	part     string   // of its name, where the application names it
	anywhere bool     // it is found by its columns where there is none of that name
	optional bool
}

// kind is a server whose tables are known.
type kind struct {
	name  string
	roles []role
	plan  func(found, *Source) plan
}

// kinds are those servers.
func kinds() []kind { return []kind{bshaffer(), django(), doorkeeper(), fos()} }

// Kinds are the names of the servers whose tables are known: bshaffer's
// oauth2-server-php, django-oauth-toolkit, doorkeeper and FOSOAuthServerBundle.
func Kinds() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// found are the tables of a kind, by their roles.
type found struct {
	kind   kind
	tables map[string]*table
}

// find finds out whose tables there are, and which of them are which.
func find(tables map[string]*table, o Options) (found, error) {
	if err := checkRoles(o.Tables); err != nil {
		return found{}, err
	}
	var fitting []found
	for _, k := range kinds() {
		if o.Kind != "" && o.Kind != k.name {
			continue
		}
		f, err := k.find(tables, o.Tables)
		if err != nil && o.Kind != "" {
			return found{}, fmt.Errorf("it has not all tables of %s: %w; %s", k.name, err, listed(tables))
		}
		if err == nil {
			fitting = append(fitting, f)
		}
	}
	switch {
	case len(fitting) == 1:
		return fitting[0], nil
	case o.Kind != "":
		return found{}, fmt.Errorf("there is no kind %s: it must be one of %s", o.Kind, strings.Join(Kinds(), ", "))
	case len(fitting) > 1:
		var names []string
		for _, f := range fitting {
			names = append(names, f.kind.name)
		}
		return found{}, fmt.Errorf("it has the tables of %s: say with --from which to read", strings.Join(names, " and "))
	}
	return found{}, fmt.Errorf("it has not all tables of any of %s: say with --from whose they are; %s", strings.Join(Kinds(), ", "), listed(tables))
}

func checkRoles(named map[string]string) error {
	known := map[string]bool{}
	for _, k := range kinds() {
		for _, r := range k.roles {
			known[r.name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !known[name] {
			return fmt.Errorf("no table has the role %s: it must be one of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return nil
}

// listed tells which tables there are, and what to do about it.
func listed(tables map[string]*table) string {
	const most = 60
	names := slices.Sorted(maps.Keys(tables))
	if len(names) == 0 {
		return "no tables were found that this user may read"
	}
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	return "these tables were found: " + strings.Join(names, ", ") + more + "; name them with --table role=name"
}

// find finds the tables of one kind.
func (k kind) find(tables map[string]*table, named map[string]string) (found, error) {
	f := found{k, map[string]*table{}}
	for _, r := range k.roles {
		t, err := r.find(tables, named)
		if err != nil {
			return found{}, err
		}
		f.tables[r.name] = t
	}
	return f, nil
}

// find finds the table with a role; nil where it is optional and not there, or not
// to be read.
func (r role) find(tables map[string]*table, named map[string]string) (*table, error) {
	if name, ok := named[r.name]; ok {
		t := tables[name]
		switch {
		case name == "" && r.name != "client":
			return nil, nil
		case t == nil:
			return nil, fmt.Errorf("there is no table %q for the role %s", name, r.name)
		case t.lacks(r.columns) != "":
			return nil, fmt.Errorf("the table %s cannot have the role %s: it has no column %s", name, r.name, t.lacks(r.columns))
		}
		return t, nil
	}
	if t := tables[r.table]; t != nil && t.lacks(r.columns) == "" {
		return t, nil
	}
	var fitting []string
	for name, t := range tables {
		_, other := t.columns[r.without]
		if r.anywhere && !other && strings.Contains(strings.ToLower(name), r.part) && t.lacks(r.columns) == "" {
			fitting = append(fitting, name)
		}
	}
	slices.Sort(fitting)
	switch {
	case len(fitting) == 1:
		return tables[fitting[0]], nil
	case len(fitting) > 1:
		return nil, fmt.Errorf("%s may have the role %s: say which with --table %s=name", strings.Join(fitting, " and "), r.name, r.name)
	case r.optional:
		return nil, nil
	}
	return nil, fmt.Errorf("none has the role %s, with the columns %s", r.name, strings.ReplaceAll(strings.ReplaceAll(strings.Join(r.columns, ", "), "*", ""), "|", " or "))
}

// view is a table in a query.
type view struct {
	dialect
	*table
	alias string
}

// view gives the table with a role a name in a query.
func (f found) view(s *Source, role, alias string) view {
	return view{s.place.dialect, f.tables[role], alias}
}

// there reports whether the table is there.
func (v view) there() bool { return v.table != nil }

// from is the table as FROM has it; "" where it is not there.
func (v view) from() string {
	if !v.there() {
		return ""
	}
	return v.quoted(v.table.name) + " AS " + v.alias
}

// get is a column by one of its names, or NULL where the table has none.
func (v view) get(names ...string) string {
	if !v.there() {
		return "NULL"
	}
	c, ok := v.column(names...)
	if !ok {
		return "NULL"
	}
	return v.alias + "." + v.quoted(c.name)
}

// join joins a table where one column equals another's; "" where it is not there.
// PostgreSQL does not compare numbers with text by itself.
func (v view) join(column string, other view, others ...string) string {
	if !v.there() {
		return ""
	}
	one, two := v.get(column), other.get(others...)
	mine, _ := v.column(column)
	theirs, _ := other.column(others...)
	if v.dialect.name == postgres.name && mine.number() != theirs.number() {
		one, two = "CAST("+one+" AS TEXT)", "CAST("+two+" AS TEXT)"
	}
	return " LEFT JOIN " + v.from() + " ON " + one + " = " + two
}
