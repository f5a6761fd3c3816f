package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// A fault is an error that the client is answered with: an HTTP status and the text
// that docker prints behind "Error response from daemon:".
type fault struct {
	status  int
	message string
}

func (f *fault) Error() string { return f.message }

func faultf(status int, format string, args ...any) *fault {
	return &fault{status: status, message: fmt.Sprintf(format, args...)}
}

// statusOf is the one place where an error becomes an HTTP status.
func statusOf(err error) int {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.status
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// writeFault answers with err in the form of Docker's own errors. It must come before
// anything else of the answer.
func writeFault(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	w.Write(faultBody(err)) // a client that is gone needs no answer
}

// faultBody is err as Docker's JSON.
func faultBody(err error) []byte {
	body, err := json.Marshal(struct {
		Message string `json:"message"`
	}{err.Error()})
	if err != nil {
		return []byte(`{"message":"unprintable error"}`)
	}
	return append(body, '\n')
}
