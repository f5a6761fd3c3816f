package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"valise/beneath"
	"valise/identity"
	"valise/layer"
	"valise/profile"
	"valise/store/s3"
)

// storage checks where data may lie: roots, and what all profiles on S3 have in common.
func (c *checker) storage(f file) {
	for _, path := range slices.Sorted(maps.Keys(f.Roots)) {
		key, t := dotted("roots", path), f.Roots[path]
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
			c.fault(key, "%q is not a clean absolute path below /", path)
			continue
		}
		marker := t.Marker.value
		if marker != "" && !filepath.IsLocal(marker) {
			c.fault(key+".marker", "%q is not a path inside the root", marker)
		}
		c.cfg.Roots = append(c.cfg.Roots, beneath.Root{Path: path, RequireMount: t.RequireMount.value, Marker: marker})
	}
	c.s3(f.S3)
	c.upkeep(f.S3.Upkeep)
	for _, name := range slices.Sorted(maps.Keys(f.Providers)) {
		c.provider(dotted("storage_providers", name), name, f.Providers[name])
	}
}

func (c *checker) s3(t s3Table) {
	c.choice("s3.request_checksum_calculation", t.RequestChecksumCalculation, "when_supported", "when_required")
	c.choice("s3.response_checksum_validation", t.ResponseChecksumValidation, "when_supported", "when_required")
	c.cfg.S3 = S3{
		AccessKeyID: t.AccessKeyID.value, SecretAccessKeyFile: c.absolute("s3.secret_access_key_file", t.SecretAccessKeyFile, ""),
		Region: t.Region.value, CAFile: c.absolute("s3.ca_file", t.CAFile, ""),
		RequestChecksumCalculation: t.RequestChecksumCalculation.value, ResponseChecksumValidation: t.ResponseChecksumValidation.value,
		SyncInterval: c.duration("s3.sync_interval", t.SyncInterval, time.Minute, time.Second),
		Patience:     c.duration("s3.patience", t.Patience, time.Minute, time.Second),
		Lease:        c.duration("s3.lease", t.Lease, time.Minute, 5*time.Second),
		CacheSize:    c.sizeOr("s3.cache_size", t.CacheSize, 10<<30),
		SingleHost:   t.SingleHost.value,
	}
	if t.Prefetch.value == "off" {
		c.cfg.S3.Prefetch = -1
	} else {
		c.cfg.S3.Prefetch = c.size("s3.prefetch", t.Prefetch)
	}
	c.keyAndSecret("s3", t.AccessKeyID, t.SecretAccessKeyFile)
}

// keyAndSecret checks that an access key has its secret.
func (c *checker) keyAndSecret(key string, id, secretFile opt[string]) {
	switch {
	case id.value == "" && secretFile.value != "":
		c.fault(key+".access_key_id", "missing: there is a secret_access_key_file")
	case id.value != "" && id.value != s3.IAM && secretFile.value == "":
		c.fault(key+".secret_access_key_file", "missing: the access key needs its secret")
	}
}

func (c *checker) upkeep(t upkeepTable) {
	number := func(name string, o opt[int64]) int {
		if o.value < 0 {
			c.fault("s3.upkeep."+name, "%d is negative", o.value)
		}
		return int(o.value)
	}
	c.cfg.S3.Upkeep = Upkeep{
		Off: !t.Enabled.or(true),

		Interval:      c.duration("s3.upkeep.interval", t.Interval, 24*time.Hour, minUpkeep),
		CheckInterval: c.duration("s3.upkeep.check_interval", t.CheckInterval, 7*24*time.Hour, minUpkeep),
		CheckData:     t.CheckData.value,
		Grace:         c.duration("s3.upkeep.grace", t.Grace, 24*time.Hour, 10*time.Minute),
		KeepLast:      number("keep_last", t.KeepLast), KeepDaily: number("keep_daily", t.KeepDaily),
		KeepWeekly: number("keep_weekly", t.KeepWeekly), KeepMonthly: number("keep_monthly", t.KeepMonthly),
	}
}

// minUpkeep keeps every profile from being listed all the time.
const minUpkeep = time.Second

// provider checks a storage provider and keeps it for the mappings that name it.
func (c *checker) provider(key, name string, t providerTable) {
	c.choice(key+".backend_storage", t.BackendStorage, "s3")
	s := &profile.Storage{
		Provider:   name,
		Encryption: c.choice(key+".encryption", t.Encryption, "none", "sse-c", "client"),
		SizeLimit:  c.size(key+".storage_limit", t.StorageLimit),
		Filter:     c.filter(key+".filter", t.Filter),

		MasterKeyFile: c.absolute(key+".master_key_file", t.MasterKeyFile, ""),
	}
	s.EnforceLimit = c.choice(key+".limit_action", t.LimitAction, "warn", "enforce") == "enforce"
	if t.LogLevel.set {
		level := logLevels[c.choice(key+".log_level", t.LogLevel, "info", "debug", "warning", "error")]
		s.LogLevel = &level
	}
	if s.Encryption != "none" && t.MasterKeyFile.value == "" {
		c.fault(key+".master_key_file", "missing: encryption = %q wraps each profile's key with it", s.Encryption)
	}
	s.Role = c.role(key, t)
	c.providers[name] = s
}

// role is the one whose credentials a provider's profiles get; nil without sts.
func (c *checker) role(key string, t providerTable) *profile.Role {
	r := &profile.Role{
		ARN: t.STSRoleARN.value, Endpoint: t.STSEndpoint.value,
		Duration: c.duration(key+".sts_duration", t.STSDuration, time.Hour, 15*time.Minute),
	}
	if r.Duration > 12*time.Hour {
		c.fault(key+".sts_duration", "%s is more than the 12h that STS allows", r.Duration)
	}
	switch {
	case !t.STS.value:
		return nil
	case r.ARN == "":
		c.fault(key+".sts_role_arn", "missing: sts = true takes this role for each profile")
	case !strings.HasPrefix(r.ARN, "arn:"):
		c.fault(key+".sts_role_arn", "%q is no role's ARN, such as arn:aws:iam::123456789012:role/valise-profiles", r.ARN)
	}
	return r
}

func (c *checker) filter(key string, o opt[string]) string {
	f := o.or(layer.DefaultFilter)
	if _, err := layer.ParseFilter(f); err != nil {
		c.fault(key, "%s", err)
	}
	return f
}

// s3Path reads a workspace's s3:// path, which has the server-wide credentials.
func (c *checker) s3Path(key, url string) *profile.Storage {
	s := &profile.Storage{
		AccessKeyID: c.cfg.S3.AccessKeyID, SecretAccessKeyFile: c.cfg.S3.SecretAccessKeyFile,
		Encryption: "none", Filter: layer.DefaultFilter,
	}
	bucket, prefix := url, ""
	if i := strings.Index(url[len("s3://"):], "/"); i >= 0 {
		bucket, prefix = url[:len("s3://")+i], url[len("s3://")+i:]
	}
	// The endpoint may be a URL: s3://bucket@http://127.0.0.1:9000/prefix/
	for _, scheme := range []string{"@http:", "@https:"} {
		if at, rest, ok := strings.Cut(url, scheme+"//"); ok && !strings.Contains(at[len("s3://"):], "/") {
			host, below, _ := strings.Cut(rest, "/")
			bucket, prefix = at+scheme+"//"+host, "/"+below
		}
	}
	c.location(key, s, bucket, prefix)
	return s
}

// location sets where a storage's profiles lie.
func (c *checker) location(key string, s *profile.Storage, bucket, prefix string) {
	at, err := s3.ParseURL(bucket + "/x/")
	if err != nil {
		c.fault(key, "%s", err)
		return
	}
	s.Bucket = strings.TrimSuffix(at.String(), "/x/")
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		c.fault(key, "it has no prefix: each user's profile needs one of its own, such as %s/{username}/", s.Bucket)
		return
	}
	if _, err := s3.ParseURL(s.Bucket + "/" + prefix + "/"); err != nil {
		c.fault(key, "%s", err)
		return
	}
	s.Prefix = c.template(key, "/"+prefix)
}

// storageMapping is what ties a provider to a workspace; nil without one.
func (c *checker) storageMapping(key string, t storageTable) *profile.Storage {
	if t == (storageTable{}) {
		return nil
	}
	provider, ok := c.providers[t.Provider.value]
	if !ok {
		c.fault(key+".provider", "there is no storage provider %q; add [storage_providers.%s]", t.Provider.value, t.Provider.value)
		return nil
	}
	s := *provider
	s.AccessKeyID, s.SecretAccessKeyFile = t.AccessKeyID.value, c.absolute(key+".secret_access_key_file", t.SecretAccessKeyFile, "")
	if !t.AccessKeyID.set {
		s.AccessKeyID, s.SecretAccessKeyFile = c.cfg.S3.AccessKeyID, c.cfg.S3.SecretAccessKeyFile
	}
	c.keyAndSecret(key, t.AccessKeyID, t.SecretAccessKeyFile)
	if t.Bucket.value == "" {
		c.fault(key+".bucket", "missing: give BUCKET or BUCKET@ENDPOINT")
		return nil
	}
	bucket := strings.TrimPrefix(t.Bucket.value, "s3://")
	c.location(key+".prefix", &s, "s3://"+strings.TrimSuffix(bucket, "/"), t.Prefix.or("{image_id}/{username}"))
	return &s
}

func (c *checker) size(key string, o opt[string]) int64 { return c.sizeOr(key, o, 0) }

func (c *checker) sizeOr(key string, o opt[string], def int64) int64 {
	if !o.set || o.wrong != "" {
		return def
	}
	n, err := profile.ParseSize(o.value)
	if err != nil {
		c.fault(key, "%s", err)
	}
	return n
}

func (c *checker) duration(key string, o opt[string], def, least time.Duration) time.Duration {
	d, err := time.ParseDuration(o.or(def.String()))
	if err != nil || d < least {
		c.fault(key, "%q is not a duration of at least %s, such as %s", o.value, short(least), short(def))
	}
	return d
}

// short writes a duration without the units that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// below reports whether path is a root or lies below one.
func (c *checker) below(path string) bool {
	return slices.ContainsFunc(c.cfg.Roots, func(r beneath.Root) bool {
		return path == r.Path || strings.HasPrefix(path, r.Path+"/")
	})
}

// profilePlaces sets where a workspace's profiles lie, and where they lay before.
func (c *checker) profilePlaces(key string, w *profile.Workspace, t workspaceTable) {
	path, s3Path := c.profilePath(key+".profile", t.Profile.value)
	w.Path, w.Storage = path, s3Path
	if mapped := c.storageMapping(key+".storage_mapping", t.StorageMapping); mapped != nil {
		w.Storage, w.Source = mapped, s3Path
	}
	if from := t.MigrateFrom.value; from != "" {
		if w.Storage == nil {
			c.fault(key+".migrate_from", "only profiles on S3 are migrated to: give profile = \"s3://…\" or a storage_mapping")
		}
		if !w.Path.IsZero() || w.Source != nil {
			c.fault(key+".migrate_from", "profiles are migrated from `profile` = %q already", t.Profile.value)
		}
		w.Path, w.Source = c.profilePath(key+".migrate_from", from)
	}
	if w.Storage != nil {
		w.Storage.OnSecondHost = c.choice(key+".on_second_host", t.OnSecondHost, "fail", "wait", "readonly")
		if w.Storage.SizeLimit == 0 {
			w.Storage.SizeLimit = w.SizeLimit
		}
	}
}

// profilePath reads a directory's or an S3 path.
func (c *checker) profilePath(key, path string) (identity.Template, *profile.Storage) {
	if strings.HasPrefix(path, "s3://") {
		return identity.Template{}, c.s3Path(key, path)
	}
	if path == "" {
		return identity.Template{}, nil
	}
	t := c.template(key, path)
	c.needsRoot(key, t)
	if !t.IsZero() && slices.Contains(c.rootPaths(), t.String()) {
		c.fault(key, "a profile lies below a root, it is none itself")
	}
	return t, nil
}
