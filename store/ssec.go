package store

import "errors"

// ErrSSECRefused is the answer of a Bucket that sends a key of the customer's own with
// each object (SSE-C) where the store does not take one.
var ErrSSECRefused = errors.New("the store refuses customer-provided encryption keys (SSE-C)")
