//go:build cgo

package main

import _ "github.com/mattn/go-sqlite3"

func openMattn(path string) (engine, error) { return openSQL("sqlite3", path) }
