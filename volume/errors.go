package volume

import "errors"

// ErrInUse is the driver's answer to a reset of a profile that is mounted. Docker
// hands errors on as text only, so it is known by its words.
var ErrInUse = errors.New("is in use")
