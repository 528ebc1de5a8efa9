package evergrant

import (
	"context"
	"iter"
	"maps"
	"net/url"
)

// page is a part of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"` // cursor of the next page, "" on the last one
}

// list reads a list page by page, as the caller consumes it.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := maps.Clone(query) // the sequence can be ranged over again
		for {
			part, err := get[page[T]](ctx, c, path+"?"+query.Encode())
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range part.Items {
				if !yield(item, nil) {
					return
				}
			}
			if part.Next == "" {
				return
			}
			query.Set("cursor", part.Next)
		}
	}
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	err := c.call(ctx, "GET", path, nil, &out)
	return out, err
}

// query makes the values of those names whose value is not empty.
func query(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}
