package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"valise/beneath"
	"valise/profile"
)

// noS3 is said where a workspace would need what this version lacks.
const noS3 = "this version of valise serves profiles from directories only, not from S3; give a path below one of the roots"

// storage checks where data may lie: roots, and the grammar of the S3 settings.
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
	for _, name := range slices.Sorted(maps.Keys(f.Providers)) {
		c.provider(dotted("storage_providers", name), f.Providers[name])
	}
}

func (c *checker) s3(t s3Table) {
	c.choice("s3.request_checksum_calculation", t.RequestChecksumCalculation, "when_supported", "when_required")
	c.choice("s3.response_checksum_validation", t.ResponseChecksumValidation, "when_supported", "when_required")
	c.cfg.S3 = S3{
		AccessKeyID: t.AccessKeyID.value, SecretAccessKeyFile: c.absolute("s3.secret_access_key_file", t.SecretAccessKeyFile, ""),
		Region:                     t.Region.value,
		RequestChecksumCalculation: t.RequestChecksumCalculation.value, ResponseChecksumValidation: t.ResponseChecksumValidation.value,
	}
	switch id := t.AccessKeyID.value; {
	case id == "" && t.SecretAccessKeyFile.value != "":
		c.fault("s3.access_key_id", "missing: there is a secret_access_key_file")
	case id != "" && id != "{IAM}" && t.SecretAccessKeyFile.value == "":
		c.fault("s3.secret_access_key_file", "missing: the access key needs its secret")
	}
}

func (c *checker) provider(key string, t providerTable) {
	c.choice(key+".backend_storage", t.BackendStorage, "s3")
	c.choice(key+".log_level", t.LogLevel, "info", "debug", "warning", "error")
	c.choice(key+".encryption", t.Encryption, "none", "sse-c", "client")
	c.size(key+".storage_limit", t.StorageLimit)
	if t.STS.value && t.STSRoleARN.value == "" {
		c.fault(key+".sts_role_arn", "missing: sts = true takes this role for each profile")
	}
	if e := t.Encryption.value; e != "" && e != "none" && t.MasterKeyFile.value == "" {
		c.fault(key+".master_key_file", "missing: encryption = %q wraps each profile's key with it", e)
	}
}

// storageMapping checks a workspace's storage_mapping and says that it can't be served.
func (c *checker) storageMapping(key string, t storageTable, providers map[string]providerTable) {
	if t == (storageTable{}) {
		return
	}
	if _, ok := providers[t.Provider.value]; !ok {
		c.fault(key+".provider", "there is no storage provider %q", t.Provider.value)
	}
	if t.Bucket.value == "" {
		c.fault(key+".bucket", "missing: give BUCKET or BUCKET@ENDPOINT")
	}
	c.fault(key, "%s", noS3)
}

func (c *checker) size(key string, o opt[string]) int64 {
	if !o.set || o.wrong != "" {
		return 0
	}
	n, err := profile.ParseSize(o.value)
	if err != nil {
		c.fault(key, "%s", err)
	}
	return n
}

// below reports whether path is a root or lies below one.
func (c *checker) below(path string) bool {
	return slices.ContainsFunc(c.cfg.Roots, func(r beneath.Root) bool {
		return path == r.Path || strings.HasPrefix(path, r.Path+"/")
	})
}
