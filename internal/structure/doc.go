// Package structure has no code. Its tests hold the layers and budgets that
// docs/ARCHITECTURE.md states, by reading the source of the whole module.
package structure
