package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/evergrant/evergrant/secret"
)

// rootKeyPatience is how long root_key_command may take: a request to a key
// service with a few retries.
const rootKeyPatience = 30 * time.Second

// findRoot gets the root key from where the configuration says, by default the
// file in the data directory. The command's own messages go to stderr. The
// error is fs.ErrNotExist where the default file is not there.
func (c *config) findRoot(ctx context.Context, env func(string) (string, bool), stderr io.Writer) (secret.Root, error) {
	if !c.RootKey.Empty() {
		return parseRoot([]byte(c.RootKey.Reveal()), "root_key")
	}
	if c.RootKeyFile != "" {
		root, err := readRoot(c.RootKeyFile)
		if errors.Is(err, fs.ErrNotExist) {
			err = &failure{what: "root_key_file: " + err.Error(), next: "put the root key there, such as `openssl rand -base64 32` prints for a new server"}
		}
		return root, err
	}
	if c.RootKeyCommand != "" {
		return c.rootFromCommand(ctx, stderr)
	}
	if fromEnv, ok := env(rootKeyEnv); ok {
		return parseRoot([]byte(fromEnv), rootKeyEnv)
	}
	return readRoot(filepath.Join(c.DataDir, rootKeyName))
}

// needRoot is findRoot where a root key must be there.
func (c *config) needRoot(ctx context.Context, env func(string) (string, bool), stderr io.Writer) (secret.Root, error) {
	root, err := c.findRoot(ctx, env, stderr)
	if errors.Is(err, fs.ErrNotExist) {
		err = c.missingRoot()
	}
	return root, err
}

// findOrMakeRoot is findRoot, and makes the default file where the database has
// no keys yet: a new root key beside an old database could not verify any of its
// tokens. It names the file that it made.
func (c *config) findOrMakeRoot(ctx context.Context, env func(string) (string, bool), stderr io.Writer, keys []secret.KeyRecord) (root secret.Root, made string, err error) {
	root, err = c.findRoot(ctx, env, stderr)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, "", err
	}
	if len(keys) > 0 {
		return root, "", c.missingRoot()
	}
	root, made = secret.NewRoot(), filepath.Join(c.DataDir, rootKeyName)
	return root, made, createFile(made, root.Base64()+"\n")
}

func (c *config) missingRoot() error {
	path := filepath.Join(c.DataDir, rootKeyName)
	f := &failure{
		what: "the root key is missing: there is no " + path,
		next: "put the root key that the database was made with into that file, or give it with root_key_file or " + rootKeyEnv + "; without it none of its tokens can be verified. Nothing was changed",
	}
	if !c.Database.IsZero() {
		f.next = "other servers use " + c.Database.String() + " already: give this one the same root key, as that file, or with root_key_file or " + rootKeyEnv + ". Nothing was changed"
	}
	return f
}

// wrongRoot refuses a root key that the keys in the database are not derived
// from.
func (c *config) wrongRoot() error {
	next := "give the root key that " + c.place() + " was made with; nothing was changed"
	if !c.Database.IsZero() {
		next = "all servers on one database need the same root key: give this one that of the server that was started first; nothing was changed"
	}
	return &failure{what: secret.ErrWrongRoot.Error(), next: next}
}

func parseRoot(text []byte, source string) (secret.Root, error) {
	root, err := secret.ParseRoot(text)
	if err != nil {
		return root, &failure{what: "the root key of " + source + " cannot be read: " + err.Error(), next: "give the root key that this server was first started with; if it never ran, give it a new one or delete what is there"}
	}
	return root, nil
}

func readRoot(path string) (secret.Root, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return secret.Root{}, err
	}
	return parseRoot(text, path)
}

func (c *config) rootFromCommand(ctx context.Context, stderr io.Writer) (secret.Root, error) {
	ctx, cancel := context.WithTimeout(ctx, rootKeyPatience)
	defer cancel()
	var out bytes.Buffer
	command := exec.CommandContext(ctx, "/bin/sh", "-c", c.RootKeyCommand)
	command.Stdout, command.Stderr = &out, stderr
	command.WaitDelay = time.Second // for what the command left running
	if err := command.Run(); err != nil {
		return secret.Root{}, &failure{what: "root_key_command failed: " + err.Error(), next: "run the command by hand; it must print the root key in base64 and exit with 0"}
	}
	return parseRoot(out.Bytes(), "root_key_command")
}
