package config

import (
	"io/fs"
	"log/slog"
	"time"

	"valise/beneath"
	"valise/mapping"
)

// Config is a checked configuration.
type Config struct {
	StateDir  string
	LogLevel  slog.Level
	LogFormat string // text | json
	Host      string // this host's name to others; "" is the hostname

	Plugin Plugin
	Proxy  Proxy
	S3     S3
	Roots  []beneath.Root
	Policy *mapping.Policy

	// Warnings are findings that do not stop anything.
	Warnings Faults
}

// Plugin are the driver's settings.
type Plugin struct {
	Socket        string // path of the volume protocol's Unix socket
	Admin         string // unix:///path or tcp://host:port
	UsageInterval time.Duration
}

// S3 are the credentials for plain s3:// paths, and how all stores are spoken to. What
// is empty is as the AWS environment says.
type S3 struct {
	AccessKeyID                string // {IAM} is the instance's role
	SecretAccessKeyFile        string
	Region                     string
	CAFile                     string // PEM, "" = the system's
	RequestChecksumCalculation string // when_supported | when_required
	ResponseChecksumValidation string

	SyncInterval, Patience, Lease time.Duration
	CacheSize                     int64 // bytes, 0 = no limit
	Prefetch                      int64 // bytes a second, 0 = no bound, less = none
	SingleHost                    bool
	Upkeep                        Upkeep
}

// Upkeep says when profiles on S3 are pruned and checked. Without a Keep rule no
// snapshot is forgotten.
type Upkeep struct {
	Off                                          bool
	Interval, CheckInterval, Grace               time.Duration
	CheckData                                    bool
	KeepLast, KeepDaily, KeepWeekly, KeepMonthly int
}

// Proxy are the proxy's settings.
type Proxy struct {
	Upstream      string // unix:///path or tcp://host:port
	UpstreamTLS   TLSFiles
	Driver        string // the volume driver's name at the daemon
	RefuseUnknown bool   // unmatched = "refuse"
	RefuseTaken   bool   // on_conflict = "refuse"
	Listen        []Listen
	Notices       Notices
}

// Notices say how users are told that their home is full.
type Notices struct {
	Off      bool
	Command  []string      // run in the user's containers; nil = the proxy's default
	Interval time.Duration // between two looks
	Repeat   time.Duration // while it is over the limit
	Webhook  string        // URL, "" = none
}

// Listen is one socket of the proxy.
type Listen struct {
	Address  string // unix:///path or tcp://host:port
	Identity []string
	User     string // identity "socket"
	Groups   []string
	Mode     fs.FileMode
	Group    string // the socket file's group
	TLS      TLSFiles
}

// TLSFiles name PEM files. CA verifies the other side.
type TLSFiles struct{ CA, Cert, Key string }

// Set reports whether TLS is asked for.
func (t TLSFiles) Set() bool { return t != TLSFiles{} }
