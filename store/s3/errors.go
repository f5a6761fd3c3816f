package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"valise/store"
)

// failure is an error in our words: of a kind (nil for none), with the SDK's error
// behind it for errors.Is and errors.As, but not in its text.
type failure struct {
	kind  error
	text  string
	cause error
}

func (f *failure) Error() string {
	if f.kind == nil {
		return f.text
	}
	return f.kind.Error() + ": " + f.text
}

func (f *failure) Unwrap() error { return f.kind }

// Is is false for the errors of contexts: a time-out of package net takes itself for
// one, and the caller's has not ended.
func (f *failure) Is(target error) bool {
	return target != context.Canceled && target != context.DeadlineExceeded && errors.Is(f.cause, target)
}

// As finds what the SDK's error wraps.
func (f *failure) As(target any) bool { return errors.As(f.cause, target) }

// cutShort is an object whose body ended, stalled or went wrong on the way.
type cutShort struct{ cause error }

func (e *cutShort) Error() string { return e.cause.Error() }
func (e *cutShort) Unwrap() error { return e.cause }

// isCut: an answer began and its end did not come.
func isCut(err error) bool {
	var cut *cutShort
	var read *net.OpError
	var late *stalled
	return errors.As(err, &cut) || statusOf(err) != 0 &&
		(errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &late) || errors.As(err, &read))
}

// wrongAnswer is one that asking again would not mend.
type wrongAnswer struct{ text string }

func (e *wrongAnswer) Error() string        { return e.text }
func (e *wrongAnswer) RetryableError() bool { return false }

// noCredentials is what the source of credentials said instead of them.
type noCredentials struct {
	kind, cause error
	final       bool // it has tried again itself
}

func (e *noCredentials) Error() string { return "no credentials: " + e.cause.Error() }
func (e *noCredentials) Unwrap() error { return e.cause }

// retryable adds to what the SDK asks again for, and takes from it.
func retryable(err error) aws.Ternary {
	var none *noCredentials
	if errors.As(err, &none) && none.final {
		return aws.FalseTernary
	}
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "ConditionalRequestConflict" || api.ErrorCode() == "OperationAborted") {
		return aws.TrueTernary
	}
	if status := statusOf(err); status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		return aws.TrueTernary
	}
	if tlsProblem(err) != "" {
		return aws.FalseTernary
	}
	if isCut(err) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

func statusOf(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// header is one of the answer that err is about.
func header(err error, name string) string {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		return re.Response.Header.Get(name)
	}
	return ""
}

// party is who answers, for people.
type party struct {
	where  string // the endpoint
	bucket string
}

// explain gives err the errors of package store and a text for people.
func (p party) explain(ctx context.Context, err error) error {
	var wrong *wrongAnswer
	var none *noCredentials
	var ignores *ignored
	answered := statusOf(err) >= 300 && !errors.As(err, &none) && !isCut(err)
	switch {
	case answered:
		return p.explainAnswer(err)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &wrong):
		return wrong
	case errors.As(err, &ignores):
		return &failure{kind: store.ErrSSECRefused, text: p.where + " " + ignores.Error(), cause: err}
	case errors.As(err, &none):
		return &failure{kind: none.kind, text: none.Error(), cause: err}
	case tlsProblem(err) != "":
		return &failure{text: p.where + ": " + tlsProblem(err), cause: err}
	case isCut(err):
		return &failure{kind: store.ErrUnavailable, text: p.where + ": answer cut short: " + innermost(err) + attempts(err), cause: err}
	case isConnection(err):
		return &failure{kind: store.ErrUnavailable, text: p.where + ": " + innermost(err) + attempts(err), cause: err}
	}
	return err
}

// explainAnswer explains a refusal of the store, or of what stands before it, which
// may not speak S3.
func (p party) explainAnswer(err error) error {
	var api smithy.APIError
	code, message, status := "", "", statusOf(err)
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	text := fmt.Sprintf("%s: status %d", p.where, status)
	if code != "" {
		text += " " + code
	}
	if message != "" && message != code {
		text += ": " + message
	}
	text += attempts(err)
	var kind error
	switch {
	case code == "NoSuchBucket":
		text = fmt.Sprintf("%s: there is no bucket %q", p.where, p.bucket)
	case code == "NoSuchKey":
		kind, text = store.ErrNotExist, p.where
	case code == "PreconditionFailed" || status == http.StatusPreconditionFailed:
		kind, text = store.ErrExist, p.where
	case code == "RequestTimeTooSkewed":
		text = fmt.Sprintf("this host's clock is wrong%s: set it, best by NTP (%s)", skew(err), text)
	case code == "InvalidRange" || status == http.StatusRequestedRangeNotSatisfiable:
		text = "the object ends before the range"
	case isDenied(code) || status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind = store.ErrDenied
	case code == "InvalidRequest" && strings.Contains(message, "stored using a form of Server Side Encryption"):
		kind = store.ErrDenied
		text += ": it takes the customer key that it was stored with"
	case status == http.StatusNotImplemented: // asking later does not mend it
		text += ": the store lacks something that valise needs"
	case status >= 500 || retryable(err) == aws.TrueTernary || isBusy(code):
		kind = store.ErrUnavailable
	case status/100 == 3 || isWrongRegion(code):
		text += ": the region or the endpoint is not the bucket's" + hint(err)
	}
	return &failure{kind: kind, text: text, cause: err}
}

// isDenied tells the codes about credentials; some of them come with status 400.
func isDenied(code string) bool {
	switch code {
	case "AccessDenied", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidAccessKeyId",
		"InvalidClientTokenId", "SignatureDoesNotMatch", "TokenRefreshRequired",
		"XAdminUserNotFound": // what versitygw calls InvalidAccessKeyId
		return true
	}
	return false
}

func isBusy(code string) bool {
	_, busy := retry.DefaultThrottleErrorCodes[code]
	_, again := retry.DefaultRetryableErrorCodes[code]
	return busy || again
}

func isWrongRegion(code string) bool {
	return code == "AuthorizationHeaderMalformed" || code == "IllegalLocationConstraintException"
}

// hint is what the answer says about the region.
func hint(err error) string {
	if region := header(err, regionHeader); region != "" {
		return fmt.Sprintf(", it is in %s", region)
	}
	return ""
}

// skew is how far this host's clock is off, as far as the answer tells.
func skew(err error) string {
	date, parseErr := http.ParseTime(header(err, "Date"))
	if parseErr != nil {
		return ""
	}
	off := time.Since(date).Round(time.Second)
	if off < 0 {
		return fmt.Sprintf(", %s slow", -off)
	}
	return fmt.Sprintf(", %s fast", off)
}

// attempts tells how many there were, if that is why it ended.
func attempts(err error) string {
	var m *retry.MaxAttemptsError
	if errors.As(err, &m) && m.Attempt > 1 {
		return fmt.Sprintf(" (%d attempts)", m.Attempt)
	}
	return ""
}

// isConnection: no answer came.
func isConnection(err error) bool {
	var send *smithyhttp.RequestSendError
	var netErr net.Error
	return errors.As(err, &send) || errors.As(err, &netErr)
}

// innermost is the text of a connection's error without what net/http and the SDK put
// around it.
func innermost(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return send.Err.Error()
	}
	var cut *cutShort
	if errors.As(err, &cut) {
		return cut.Error()
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// tlsProblem says in words what is wrong with the other side's TLS, "" if nothing is.
func tlsProblem(err error) string {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &cert):
		return cert.Error() + " (a private authority goes into the CA file)"
	case errors.As(err, &record), err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS (without it the endpoint begins with http://)"
	}
	return ""
}
