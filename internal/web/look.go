package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
)

//go:embed templates
var files embed.FS

// look is how pages look: one template for each page, and the style that all
// share.
type look struct {
	pages  map[string]*template.Template
	style  template.CSS
	policy string // Content-Security-Policy
}

// newLook reads the embedded templates: a layout and what stands in it.
func newLook(layout string, names ...string) look {
	style, err := files.ReadFile("templates/style.css")
	if err != nil {
		panic(err) // it is embedded
	}
	frame := template.Must(template.ParseFS(files, "templates/"+layout+".html"))
	l := look{pages: map[string]*template.Template{}, style: template.CSS(style)}
	for _, name := range names {
		page := template.Must(frame.Clone())
		l.pages[name] = template.Must(page.ParseFS(files, "templates/"+name+".html"))
	}
	digest := sha256.Sum256(style)
	// There is no form-action: browsers apply it to where a form's answer
	// redirects to as well, which here is the client.
	l.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) +
		"'; base-uri 'none'; frame-ancestors 'none'"
	return l
}

// show writes a page that nobody may frame, keep, or run anything in.
func (l look) show(w http.ResponseWriter, status int, name, title string, content any) {
	var page bytes.Buffer
	err := l.pages[name].Execute(&page, struct {
		Title   string
		Style   template.CSS
		Content any
	}{title, l.style, content})
	if err != nil {
		panic(err) // templates and what they show are of this package
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", l.policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	// Other sites learn nothing of the page's address. With no-referrer, though,
	// browsers would send "Origin: null" with the page's own forms, which older
	// ones have nothing else to prove themselves by.
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(page.Bytes())
}
