package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// maxAnswer bounds how much of an answer is read, so that its connection can be
// used again.
const maxAnswer = 64 << 10

// send makes one attempt. It returns the status of the answer, 0 where there was
// none, and an error unless the status is 2xx. The error does not have the URL,
// which may hold a secret.
func (w *Worker) send(ctx context.Context, h Hook, d Delivery) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(d.Body))
	if err != nil {
		return 0, errors.New("the URL is not valid")
	}
	for name, value := range map[string]string{
		"Content-Type":        "application/json",
		"User-Agent":          "evergrant",
		"Evergrant-Event":     d.Type,
		"Evergrant-Delivery":  strconv.FormatInt(d.ID, 10),
		"Evergrant-Attempt":   strconv.Itoa(d.Attempts + 1),
		"Evergrant-Signature": Sign(h.Secret, w.cfg.Now(), d.Body),
	} {
		req.Header.Set(name, value)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			if wrapped.Timeout() {
				return 0, fmt.Errorf("no answer within %v", sendTimeout)
			}
			err = wrapped.Err
		}
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status has said all
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return resp.StatusCode, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return resp.StatusCode, errors.New("redirects are not followed: give the webhook the URL where it ends")
	}
	return resp.StatusCode, fmt.Errorf("the receiver answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}
