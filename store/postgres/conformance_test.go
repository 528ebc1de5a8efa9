package postgres

import (
	"testing"

	"github.com/evergrant/evergrant/internal/pgtest"
	"github.com/evergrant/evergrant/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() storetest.Database {
		url := pgtest.Database(t)
		return func() storetest.Database {
			db := opened(t, url)
			return storetest.Database{Store: db, Keeper: db.Keeper(), Hooks: db}
		}
	})
}
